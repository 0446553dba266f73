"""What runtimes pass for capabilities, spelt as CNI's conventions spell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_KEYS: Final = {
    "bandwidth": ("ingressRate", "ingressBurst", "egressRate", "egressBurst"),
    "dns": ("servers", "searches", "options"),
}
_KNOWN: Final = {name: {key.lower(): key for key in keys} for name, keys in _KEYS.items()}


def respelt(netconf: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a netconf whose `runtimeConfig` has the conventions' keys, and no null among them.

    containerd writes the names of its Go structures (`IngressRate`), null for what it has not,
    and plugins in Go read keys in any case.
    """
    given = netconf.get("runtimeConfig")
    if not isinstance(given, Mapping):
        return netconf
    changed = {
        name: {known.get(key.lower(), key): item for key, item in value.items() if item is not None}
        for name, known in _KNOWN.items()
        if isinstance(value := given.get(name), Mapping)
    }
    return {**netconf, "runtimeConfig": {**given, **changed}} if changed else netconf
