"""cni-virtio: a CNI plugin whose containers are wired by a DPDK dataplane."""

__version__ = "0.1.0"
