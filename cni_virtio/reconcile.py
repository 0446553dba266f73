"""What has to be done so that the dataplane has what it should have: one pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dataplane.wire import Limits, NetworkSpec, PortSpec

_UPLINKS_FIRST: Final = {"uplink": 0, "exception": 1, "host": 2, "container": 3}


@dataclass(frozen=True)
class Desired:
    """What should be there, by name."""

    networks: Mapping[str, NetworkSpec] = field(default_factory=dict)
    ports: Mapping[str, PortSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Actual:
    """What is there, by name."""

    networks: Mapping[str, NetworkSpec] = field(default_factory=dict)
    ports: Mapping[str, PortSpec] = field(default_factory=dict)


@dataclass(frozen=True)
class AddPort:
    """Add a port; its network, if any, is there by then."""

    spec: PortSpec


@dataclass(frozen=True)
class DelPort:
    """Delete a port."""

    name: str


@dataclass(frozen=True)
class SetLimits:
    """Set the limits of a port that is there and stays."""

    name: str
    limits: Limits


@dataclass(frozen=True)
class AddNetwork:
    """Add a network; its uplink, if any, is there by then."""

    spec: NetworkSpec


@dataclass(frozen=True)
class DelNetwork:
    """Delete a network; it has no ports by then."""

    name: str


Action = AddPort | DelPort | SetLimits | AddNetwork | DelNetwork


def plan(desired: Desired, actual: Actual) -> list[Action]:
    """Return the actions, in an order in which each can be carried out, that lead to `desired`.

    What changed is made anew, and so is all that stands on it: the networks and the twin of a
    changed uplink, the ports of a changed network. Limits change on the running port.
    """
    unfit_ports = {
        name for name, spec in actual.ports.items() if not same_port(desired.ports.get(name), spec)
    }
    unfit_ports |= {name for name, spec in actual.ports.items() if spec.uplink in unfit_ports}
    unfit_networks = {
        name
        for name, spec in actual.networks.items()
        if desired.networks.get(name) != spec or spec.uplink in unfit_ports
    }
    unfit_ports |= {name for name, spec in actual.ports.items() if spec.network in unfit_networks}
    del_ports = _in_order(actual.ports[name] for name in unfit_ports)
    add_ports = _in_order(
        spec
        for name, spec in desired.ports.items()
        if name in unfit_ports or name not in actual.ports
    )
    return [
        *(DelPort(spec.name) for spec in reversed(del_ports) if spec.role != "uplink"),
        *(DelNetwork(name) for name in sorted(unfit_networks)),
        *(DelPort(spec.name) for spec in reversed(del_ports) if spec.role == "uplink"),
        *(AddPort(spec) for spec in add_ports if spec.role == "uplink"),
        *(
            AddNetwork(spec)
            for name, spec in sorted(desired.networks.items())
            if name in unfit_networks or name not in actual.networks
        ),
        *(AddPort(spec) for spec in add_ports if spec.role != "uplink"),
        *(
            SetLimits(name, desired.ports[name].limits)
            for name, spec in sorted(actual.ports.items())
            if name not in unfit_ports and desired.ports[name].limits != spec.limits
        ),
    ]


def same_port(wanted: PortSpec | None, found: PortSpec) -> bool:
    """Tell whether a port is as wanted, but for its limits."""
    return wanted is not None and _essence(wanted) == _essence(found)


def _essence(spec: PortSpec) -> PortSpec:
    # Labels mean nothing to the dataplane: another agent's wording is no reason to cut traffic.
    # But a twin's says which of the host's taps it is, which nothing else does.
    kept = {"ifname": spec.labels.get("ifname", "")} if spec.role == "exception" else {}
    return replace(spec, labels=kept, limits=Limits())


def _in_order(specs: Iterable[PortSpec]) -> list[PortSpec]:
    """Those that carry others' traffic come first."""
    return sorted(specs, key=lambda spec: (_UPLINKS_FIRST[spec.role], spec.name))
