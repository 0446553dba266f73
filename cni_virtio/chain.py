"""The chain of plugins that this one is part of: the results of those before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from cni_virtio.results import DNS, IPConfig, Result

_T = TypeVar("_T")


def merged(previous: Result, own: Result) -> Result:
    """Return both results as one: theirs first, and our indexes of interfaces moved up."""
    offset = len(previous.interfaces)
    return Result(
        interfaces=previous.interfaces + own.interfaces,
        ips=previous.ips + tuple(_moved(ip, offset) for ip in own.ips),
        routes=_unique(previous.routes + own.routes),
        dns=_merged_dns(previous.dns, own.dns),
    )


def _moved(ip: IPConfig, offset: int) -> IPConfig:
    return ip if ip.interface is None else replace(ip, interface=ip.interface + offset)


def _merged_dns(previous: DNS, own: DNS) -> DNS:
    return DNS(
        nameservers=_unique(previous.nameservers + own.nameservers),
        domain=previous.domain or own.domain,
        search=_unique(previous.search + own.search),
        options=_unique(previous.options + own.options),
    )


def _unique(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))
