"""The dataplane of cni-virtio: ports, networks and counters. It knows nothing of CNI or pods."""

__version__ = "0.1.0"
