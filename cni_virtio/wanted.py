"""What the dataplane should have: the configuration's uplinks and networks, and the attachments."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from cni_virtio import ports
from cni_virtio.config import AgentConfig
from cni_virtio.reconcile import Desired, same_port
from cni_virtio.state import Attachment, Key
from dataplane.wire import NetworkSpec, PortSpec

DEFAULT_MTU: Final = 1500


class Wanted:
    """The attachments by network, and what follows from them; safe to share by threads.

    A question about one attachment costs the same however many there are.
    """

    def __init__(self, config: AgentConfig) -> None:
        self._uplinks = {
            spec.name: spec
            for spec in (ports.uplink_port(uplink, config.networks) for uplink in config.uplinks)
        }
        self._exceptions = {
            ports.uplink_port_name(uplink.name): uplink.exception
            for uplink in config.uplinks
            if uplink.exception is not None
        }
        self._uplink_macs: dict[str, str] = {}
        self._backend = config.backend
        self._declared = {item.name: ports.network_spec(item) for item in config.networks}
        self._salt = str(config.dataplane.socket)
        self._lock = threading.Lock()
        self._attachments: dict[Key, Attachment] = {}
        self._ports: dict[str, Attachment] = {}
        self._users: dict[str, set[Key]] = {}
        self._gateway_users: dict[str, set[Key]] = {}

    def declared(self, network: str) -> NetworkSpec | None:
        """Return a network of the configuration, or None."""
        return self._declared.get(network)

    def uplink_of(self, network: str) -> str | None:
        """Return the port that carries a network out of the node; None where there is none."""
        declared = self._declared.get(network)
        return declared.uplink if declared else None

    def default_mtu(self, network: str) -> int:
        """MTU of an interface in the network whose netconf gives none."""
        declared = self._declared.get(network)
        return declared.mtu if declared else DEFAULT_MTU

    def add(self, attachment: Attachment) -> None:
        """Want an attachment, in place of one of the same key."""
        with self._lock:
            key = attachment.key
            self._drop(key)
            self._attachments[key] = attachment
            self._ports[ports.pod_port_name(*key)] = attachment
            self._users.setdefault(attachment.network, set()).add(key)
            if attachment.gateways:
                self._gateway_users.setdefault(attachment.network, set()).add(key)

    def remove(self, key: Key) -> Attachment | None:
        """Want an attachment no more; return it, or None if it was not wanted."""
        with self._lock:
            return self._drop(key)

    def _drop(self, key: Key) -> Attachment | None:
        attachment = self._attachments.pop(key, None)
        if attachment is None:
            return None
        del self._ports[ports.pod_port_name(*key)]
        for users in (self._users, self._gateway_users):
            keys = users.get(attachment.network, set())
            keys.discard(key)
            if not keys:
                users.pop(attachment.network, None)
        return attachment

    def get(self, key: Key) -> Attachment | None:
        """Return the attachment of a key, or None."""
        with self._lock:
            return self._attachments.get(key)

    def by_port(self, port_name: str) -> Attachment | None:
        """Return the attachment that a port belongs to, or None."""
        with self._lock:
            return self._ports.get(port_name)

    def has_socket(self, path: str) -> bool:
        """Tell whether an attachment has its vhost-user socket at a path."""
        with self._lock:
            return bool(path) and any(
                each.socket_path == path for each in self._attachments.values()
            )

    def has_interface(self, guess: Attachment) -> bool:
        """Tell whether what a guess takes for its own is another attachment's."""
        if guess.interface != "kernel":
            return self.has_socket(guess.socket_path)
        place = (guess.netns_inode, guess.netns_cookie, guess.ifname)
        with self._lock:
            return any(
                (each.netns_inode, each.netns_cookie, each.ifname) == place
                for each in self._attachments.values()
                if each.interface == "kernel"
            )

    def all(self) -> list[Attachment]:
        """Return every attachment, oldest first."""
        with self._lock:
            return sorted(self._attachments.values(), key=lambda item: item.created_s)

    def of_name(self, name: str) -> list[Attachment]:
        """Return the attachments of one CNI network (the netconf's name)."""
        return [item for item in self.all() if item.name == name]

    def has_gateway(self, network: str) -> bool:
        """Tell whether the host should have a port in the network."""
        with self._lock:
            return network in self._gateway_users

    def gateway_addresses(self, network: str) -> list[str]:
        """Return the addresses, with prefix length, that the host should have in a network."""
        with self._lock:
            keys = self._gateway_users.get(network, set())
            found = sorted((self._attachments[key] for key in keys), key=lambda a: a.created_s)
        return list(dict.fromkeys(address for item in found for address in item.gateways))

    def gateway_mtu(self, network: str) -> int:
        """Return the MTU of the host's interface in a network."""
        declared = self._declared.get(network)
        if declared:
            return declared.mtu
        with self._lock:
            keys = self._gateway_users.get(network, set())
            return max((self._attachments[key].mtu for key in keys), default=DEFAULT_MTU)

    def networks(self) -> list[str]:
        """Return the names of all networks that should be there."""
        with self._lock:
            return sorted({*self._declared, *self._users})

    def configured(self) -> Desired:
        """Return the part of the desired state that comes from the configuration alone."""
        return Desired(networks=dict(self._declared), ports=dict(self._uplinks))

    def learn_uplink(self, spec: PortSpec, mac: str) -> None:
        """Take note of the MAC of an uplink that is there, if it is one that is wanted."""
        if mac and same_port(self._uplinks.get(spec.name), spec):
            with self._lock:
                self._uplink_macs[spec.name] = mac

    def exceptions(self) -> dict[str, PortSpec | None]:
        """Return the twins' ports by name; None where the uplink's MAC is not known yet."""
        with self._lock:
            return self._exception_ports()

    def scope(self, network: str, port_names: Iterable[str]) -> Desired:
        """Return what is wanted of one network, its uplink, and the ports named."""
        with self._lock:
            wanted: dict[str, PortSpec] = {}
            spec = self._network(network)
            if spec is not None and spec.uplink is not None:
                wanted[spec.uplink] = self._uplinks[spec.uplink]
            for name in port_names:
                if name in self._ports:
                    wanted[name] = ports.container_port(self._ports[name], self._backend)
                elif name == ports.gateway_port_name(network) and network in self._gateway_users:
                    wanted[name] = self._gateway_port(network)
            return Desired(networks={network: spec} if spec else {}, ports=wanted)

    def everything(self) -> Desired:
        """Return all that is wanted."""
        with self._lock:
            names = {*self._declared, *self._users}
            wanted = dict(self._uplinks)
            wanted |= {name: port for name, port in self._exception_ports().items() if port}
            for name, item in self._ports.items():
                wanted[name] = ports.container_port(item, self._backend)
            for port in map(self._gateway_port, self._gateway_users):
                wanted[port.name] = port
            found = {name: self._network(name) for name in names}
            return Desired({name: spec for name, spec in found.items() if spec}, wanted)

    def _network(self, name: str) -> NetworkSpec | None:
        if name in self._declared:
            return self._declared[name]
        return ports.undeclared_network(name) if name in self._users else None

    def _gateway_port(self, network: str) -> PortSpec:
        spec = self._network(network)
        mac = ports.gateway_mac(network, self._salt)
        return ports.gateway_port(network, mac, spec.mtu if spec else DEFAULT_MTU, self._backend)

    def _exception_ports(self) -> dict[str, PortSpec | None]:
        found: dict[str, PortSpec | None] = {}
        for name, exception in self._exceptions.items():
            uplink, mac = self._uplinks[name], self._uplink_macs.get(name)
            port = ports.exception_port(uplink, exception, mac, self._backend) if mac else None
            found[ports.exception_port_name(name.removeprefix("uplink:"))] = port
        return found
