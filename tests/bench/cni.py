"""What a call takes: ADD and DEL of one container after the other, and of many at once.

The peer is the bridge plugin; both get their addresses from the same host-local, and both are
executed by the same few lines. Neither is kept to a core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.bench.measure import Bench, Effort, Figures, Subject, Target
from tests.bench.plugin_calls import PLUGINS, Plugin, namespaces
from tests.smoke.agent import SHIM, node
from tests.smoke.netns import Netns, netns
from tests.unit.dataplane_process import short_directory

_AT_ONCE: Final = 100
_QUICK_CALLS: Final = 5
_CALLS_PER_SECOND: Final = 70
_PRESENT: Final = 250
_BATCH: Final = 25
_UNDISTURBED: Final = 1.2
"""By how much the attachments that are there already may change a call."""
_SETTLE_S: Final = 0.5
_SUBNET: Final = "10.88.0.0/16"
_LIKE_RUN: Final = "/dev/shm"
"""In memory, as /run is, where the agent's records are by default; leases are on disk for both."""
_PEER: Final = "bridge"
_CROWDED: Final = f"{_PRESENT} present"

Place = AbstractContextManager[tuple[Netns, Plugin]]
"""A host to call a plugin in."""


def _measure(place: Place, present: int, effort: Effort) -> Figures:
    many = _QUICK_CALLS if effort.quick else _AT_ONCE
    with place as (host, plugin), namespaces("p", _fewer(present, effort)) as others:
        host.inside(lambda: _attach(_apart(plugin), others))
        with namespaces("one", _calls(effort)) as containers:
            figures = host.inside(lambda: _one_by_one(plugin, containers))
        with namespaces("all", many) as containers:
            figures |= host.inside(lambda: _at_once(plugin, containers))
        return figures


def _apart(plugin: Plugin) -> Plugin:
    """Have the same network under another name, and so with leases of its own.

    host-local reads all leases of a name at each call: 2 ms and more for 250, whoever calls it.
    """
    ranges = [[{"subnet": _SUBNET, "rangeStart": "10.88.128.1"}]]
    conf = plugin.netconf
    more = {"name": "present", "network": conf["name"], "ipam": conf["ipam"] | {"ranges": ranges}}
    return replace(plugin, netconf={**conf, **more})


def _calls(effort: Effort) -> int:
    return _QUICK_CALLS if effort.quick else round(_CALLS_PER_SECOND * effort.seconds)


def _fewer(present: int, effort: Effort) -> int:
    return min(present, _QUICK_CALLS) if effort.quick else present


def _attach(plugin: Plugin, containers: list[str]) -> None:
    for first in range(0, len(containers), _BATCH):
        plugin.calls_ms("ADD", containers[first : first + _BATCH])


def _one_by_one(plugin: Plugin, containers: list[str]) -> dict[str, float]:
    time.sleep(_SETTLE_S)
    adds_ms = [plugin.call_ms("ADD", each) for each in containers]
    time.sleep(_SETTLE_S)
    dels_ms = [plugin.call_ms("DEL", each) for each in containers]
    return {
        "ADD p50": statistics.median(adds_ms),
        "ADD p99": _p99(adds_ms),
        "DEL p50": statistics.median(dels_ms),
        "DEL p99": _p99(dels_ms),
    }


def _at_once(plugin: Plugin, containers: list[str]) -> dict[str, float]:
    time.sleep(_SETTLE_S)
    adds_ms = plugin.calls_ms("ADD", containers)
    time.sleep(_SETTLE_S)
    return {"100 ADDs": adds_ms, "100 DELs": plugin.calls_ms("DEL", containers)}


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _netconf(directory: Path, **keys: object) -> Mapping[str, Any]:
    """Configure a network with a gateway in the host; 1.0.0 is the newest that the peer knows."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "isGateway": True,
        "isDefaultGateway": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(directory / "ipam"),
            "ranges": [[{"subnet": _SUBNET}]],
        },
        **keys,
    }


@contextmanager
def _ours() -> Iterator[tuple[Netns, Plugin]]:
    with short_directory() as directory, node(memory="256Mi", within=_LIKE_RUN) as one:
        keys = {"type": "cni-virtio", "agentSocket": str(one.socket)}
        yield one.host, Plugin(SHIM, _netconf(directory, **keys))


@contextmanager
def _bridge() -> Iterator[tuple[Netns, Plugin]]:
    with short_directory() as directory, netns() as host:
        keys = {"type": "bridge", "bridge": "cvb0"}
        yield host, Plugin(Path(PLUGINS, "bridge"), _netconf(directory, **keys))


def _subject(name: str, place: Any, present: int = 0) -> Subject:
    return Subject(name, lambda effort: _measure(place(), present, effort))


CNI: Final = Bench(
    "cni",
    f"ADD and DEL with host-local: one by one, and {_AT_ONCE} at once",
    (
        _subject("cni-virtio", _ours),
        _subject(_PEER, _bridge),
        _subject(_CROWDED, _ours, _PRESENT),
    ),
    dict.fromkeys(("ADD p50", "ADD p99", "DEL p50", "DEL p99", "100 ADDs", "100 DELs"), "ms"),
    (
        Target("ADD p50", "<=", 0.5, _PEER),
        Target("ADD p99", "<=", 0.7, _PEER),
        Target("DEL p50", "<=", 0.4, _PEER),
        Target("100 ADDs", "<=", 0.7, _PEER),
        *(
            Target(metric, ">=", 1 / _UNDISTURBED, _CROWDED)
            for metric in ("ADD p50", "ADD p99", "DEL p50", "100 ADDs")
        ),
    ),
    packages=("containernetworking-plugins",),
)
