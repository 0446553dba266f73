"""The CNI result: what an ADD made, in the shape of each spec version from 0.3.0 to 1.1.0."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, TypeVar

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
T = TypeVar("T")

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 100
brief = _brief.repr
"""`repr` cut short: what comes from outside may be a megabyte."""

SUPPORTED_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Spec versions spoken here, oldest first."""


class ResultError(ValueError):
    """A result that does not follow the spec; the message names the key and its value."""


def at_least(version: str, minimum: str) -> bool:
    """True if the spec version `version` is `minimum` or later; ValueError if not `N.N.N`."""
    return _numbers(version) >= _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True)
class Interface:
    """An interface of the attachment; `sandbox` is empty for one on the host."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""

    def to_json(self, version: str) -> dict[str, Any]:
        """The JSON object in the shape of spec `version`."""
        out: dict[str, Any] = {"name": self.name, "mac": self.mac, "sandbox": self.sandbox}
        if at_least(version, "1.1.0"):
            out |= {"mtu": self.mtu, "socketPath": self.socket_path, "pciID": self.pci_id}
        return {key: value for key, value in out.items() if value or key == "name"}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Interface:
        """Read one of any version; raises ResultError."""
        return cls(
            name=_take(data, "name", str, where, required=True),
            mac=_take(data, "mac", str, where),
            mtu=_number(data, "mtu", where),
            sandbox=_take(data, "sandbox", str, where),
            socket_path=_take(data, "socketPath", str, where),
            pci_id=_take(data, "pciID", str, where),
        )


@dataclass(frozen=True)
class IPConfig:
    """An address with its prefix, its subnet's gateway, and the index of its interface."""

    address: InterfaceAddress
    gateway: Address | None = None
    interface: int | None = None

    def to_json(self, version: str) -> dict[str, Any]:
        """The JSON object in the shape of spec `version`: `version` was a key until 1.0.0."""
        out: dict[str, Any] = {"address": str(self.address)}
        if not at_least(version, "1.0.0"):
            out["version"] = str(self.address.version)
        if self.gateway is not None:
            out["gateway"] = str(self.gateway)
        if self.interface is not None:
            out["interface"] = self.interface
        return out

    @classmethod
    def from_json(cls, data: Any, where: str) -> IPConfig:
        """Read one of any version; raises ResultError."""
        address = _take(data, "address", str, where, required=True)
        gateway = _take(data, "gateway", str, where)
        index = data.get("interface")
        if index is not None:
            _take(data, "interface", int, where)
        return cls(
            address=_parse(_cidr(ip_interface), address, f"{where}.address"),
            gateway=_parse(ip_address, gateway, f"{where}.gateway") if gateway else None,
            interface=index,
        )


@dataclass(frozen=True)
class Route:
    """A route of the container; without `gw` the gateway of the address' subnet is meant."""

    dst: Network
    gw: Address | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None

    def to_json(self, version: str) -> dict[str, Any]:
        """The JSON object in the shape of spec `version`: more than `dst`, `gw` from 1.1.0 on."""
        out: dict[str, Any] = {"dst": str(self.dst)}
        if self.gw is not None:
            out["gw"] = str(self.gw)
        if at_least(version, "1.1.0"):
            sizes = {"mtu": self.mtu, "advmss": self.advmss, "priority": self.priority}
            out |= {key: value for key, value in sizes.items() if value}
            places = {"table": self.table, "scope": self.scope}
            out |= {key: value for key, value in places.items() if value is not None}
        return out

    @classmethod
    def from_json(cls, data: Any, where: str) -> Route:
        """Read one of any version; raises ResultError."""
        dst = _take(data, "dst", str, where, required=True)
        gw = _take(data, "gw", str, where)
        return cls(
            dst=_parse(_cidr(lambda text: ip_network(text, strict=False)), dst, f"{where}.dst"),
            gw=_parse(ip_address, gw, f"{where}.gw") if gw else None,
            mtu=_number(data, "mtu", where),
            advmss=_number(data, "advmss", where),
            priority=_number(data, "priority", where),
            table=_number(data, "table", where) if data.get("table") is not None else None,
            scope=_number(data, "scope", where, 255) if data.get("scope") is not None else None,
        )


@dataclass(frozen=True)
class DNS:
    """What a resolver in the container should be told; nothing here acts on it."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object, without empty keys."""
        lists = {"nameservers": self.nameservers, "search": self.search, "options": self.options}
        out: dict[str, Any] = {key: list(value) for key, value in lists.items() if value}
        return out | ({"domain": self.domain} if self.domain else {})

    @classmethod
    def from_json(cls, data: Any, where: str) -> DNS:
        """Read one of any version; raises ResultError."""
        return cls(
            nameservers=_strings(data, "nameservers", where),
            domain=_take(data, "domain", str, where),
            search=_strings(data, "search", where),
            options=_strings(data, "options", where),
        )


@dataclass(frozen=True)
class Result:
    """The success result of ADD; an IPAM plugin's has no interfaces."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IPConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = field(default_factory=DNS)

    def to_json(self, version: str) -> dict[str, Any]:
        """The JSON object in the shape of spec `version` (one of SUPPORTED_VERSIONS)."""
        parts: dict[str, Any] = {
            "interfaces": [interface.to_json(version) for interface in self.interfaces],
            "ips": [ip.to_json(version) for ip in self.ips],
            "routes": [route.to_json(version) for route in self.routes],
            "dns": self.dns.to_json(),
        }
        return {"cniVersion": version} | {key: part for key, part in parts.items() if part}

    @classmethod
    def from_json(cls, data: Any, where: str = "result") -> Result:
        """Read a result of any supported version; unknown keys and dangling indexes are dropped.

        `where` names the object in messages. Raises ResultError.
        """
        version = _take(data, "cniVersion", str, where)
        if version and version not in SUPPORTED_VERSIONS:
            spoken = ", ".join(SUPPORTED_VERSIONS)
            raise ResultError(
                f"{where}.cniVersion: {brief(version)} is not supported ({spoken} are)"
            )
        interfaces = _items(data, "interfaces", where, Interface.from_json)
        # Some IPAM plugins give an index although they list no interfaces.
        ips = tuple(
            replace(ip, interface=None) if ip.interface not in range(len(interfaces)) else ip
            for ip in _items(data, "ips", where, IPConfig.from_json)
        )
        routes = _items(data, "routes", where, Route.from_json)
        return cls(interfaces, ips, routes, DNS.from_json(data.get("dns") or {}, f"{where}.dns"))


def _take(data: Any, key: str, kind: type[T], where: str, *, required: bool = False) -> T:
    """`data[key]` if it is a `kind`; an absent or null one is the kind's empty value."""
    if not isinstance(data, Mapping):
        raise ResultError(f"{where}: {brief(data)} is not an object")
    value = data.get(key)
    if value is None and not required:
        return kind()
    if not isinstance(value, kind) or isinstance(value, bool):
        noun = {str: "a string", int: "an integer", list: "a list"}.get(kind, kind.__name__)
        raise ResultError(f"{where}.{key}: {brief(value)} is not {noun}")
    return value


def _number(data: Any, key: str, where: str, most: int = 2**32 - 1) -> int:
    """A number that fits into what the kernel has for it."""
    value = _take(data, key, int, where)
    if not 0 <= value <= most:
        raise ResultError(f"{where}.{key}: {brief(value)} is not from 0 to {most}")
    return value


def _items(data: Any, key: str, where: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
    value: list[Any] = _take(data, key, list, where)
    return tuple(read(item, f"{where}.{key}[{number}]") for number, item in enumerate(value))


def _strings(data: Any, key: str, where: str) -> tuple[str, ...]:
    def read(item: Any, place: str) -> str:
        if not isinstance(item, str):
            raise ResultError(f"{place}: {brief(item)} is not a string")
        return item

    return _items(data, key, where, read)


def _parse(read: Callable[[str], T], text: str, where: str) -> T:
    try:
        if "%" in text:  # the zone of an interface; Python takes it, libcni and the kernel do not
            raise ValueError(f"{brief(text)} must not have a zone")
        return read(text)
    except ValueError as error:
        raise ResultError(f"{where}: {str(error)[:200]}") from None


def _cidr(read: Callable[[str], T]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        if "/" not in text:
            raise ValueError(f"{brief(text)} is not in CIDR notation, such as 10.88.0.5/16")
        return read(text)

    return parse
