"""Who can be pinged in a lab, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cni_virtio.ctl.lab.attachments import Attachment
from cni_virtio.ctl.lab.mesh import Host
from cni_virtio.ctl.lab.runtime import Runtime
from cni_virtio.ctl.lab.spec import HOST, LabContainer, LabSpec


@dataclass(frozen=True)
class Topology:
    """The hosts of a lab, by one IP version."""

    spec: LabSpec
    runtime: Runtime
    version: int

    def hosts(self) -> list[Host]:
        """Return containers, gateways and outside hosts that have an address."""
        found = [*self._containers(), *self._gateways(), *self._outside()]
        return [host for host in found if host.addresses]

    def _containers(self) -> Iterator[Host]:
        for container in self.spec.containers:
            for attachment in self.runtime.attachments(container.name):
                if host := self._container(container, attachment):
                    yield host

    def _container(self, container: LabContainer, attachment: Attachment) -> Host | None:
        netns: str | None = self.runtime.netns(container.name)
        if container.kind == "vhost-user":
            if not (container.answers_ping and container.command):
                return None
            netns = None
        name = attachment.who if len(container.interfaces) > 1 else container.name
        return Host(name, _network(attachment), self._own(attachment.addresses), netns)

    def _gateways(self) -> Iterator[Host]:
        attachments = self.runtime.attachments()
        for network in (network for network in self.spec.networks if network.gateway):
            here = [a for a in attachments if _network(a) == network.name]
            addresses = self._own([address for a in here for address in a.gateways])
            label = HOST if len(self.spec.networks) == 1 else f"{HOST}/{network.name}"
            yield Host(label, network.name, addresses, self.runtime.netns(HOST))

    def _outside(self) -> Iterator[Host]:
        for uplink in self.spec.uplinks:
            addresses = self._own(uplink.addresses)
            for network in self.spec.networks:
                if network.uplink == uplink.name and network.vlan is None:
                    netns = self.runtime.netns(uplink.name)
                    yield Host(uplink.name, network.name, addresses, netns)

    def _own(self, addresses: Sequence[str]) -> tuple[str, ...]:
        sign = ":" if self.version == 6 else "."
        plain = [a.partition("/")[0] for a in addresses if sign in a]
        return tuple(dict.fromkeys(plain))


def _network(attachment: Attachment) -> str:
    return str(attachment.netconf.get("network", attachment.netconf.get("name", "")))
