"""A lab's description on disk, so that other commands find it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from cni_virtio.ctl.lab.paths import BASE, LabPaths
from cni_virtio.ctl.lab.spec import (
    LabContainer,
    LabInterface,
    LabNetwork,
    LabSpec,
    LabUplink,
    OutsideRoute,
)


def save(spec: LabSpec, paths: LabPaths) -> None:
    """Write it, whole or not at all. Raises OSError."""
    fresh = paths.spec.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(spec), indent=1))
    fresh.replace(paths.spec)


def load(root: Path) -> LabSpec:
    """Read it back; a lab that came no further than its folder has just a name."""
    try:
        data = json.loads(LabPaths(root).spec.read_text())
    except (OSError, ValueError):
        return LabSpec(root.name, ())
    uplinks = [
        item | {"routes": _routes(item), **_tuples(item, "addresses")} for item in data["uplinks"]
    ]
    return LabSpec(
        name=data["name"],
        agent=data["agent"],
        dataplane=data["dataplane"],
        uplinks=tuple(LabUplink(**item) for item in uplinks),
        networks=tuple(LabNetwork(**(n | _tuples(n, "subnets"))) for n in data["networks"]),
        containers=tuple(_container(item) for item in data["containers"]),
    )


def names(base: Path = BASE) -> list[str]:
    """Return the labs there are, even half of one."""
    try:
        return sorted(entry.name for entry in base.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


def _tuples(item: dict[str, list[str]], key: str) -> dict[str, tuple[str, ...]]:
    return {key: tuple(item[key])}


def _routes(item: dict[str, list[dict[str, str]]]) -> tuple[OutsideRoute, ...]:
    return tuple(OutsideRoute(**route) for route in item["routes"])


def _container(item: dict[str, object]) -> LabContainer:
    interfaces = item["interfaces"]
    command = item["command"]
    assert isinstance(interfaces, list)
    assert isinstance(command, list)
    fixed = {
        "interfaces": tuple(LabInterface(**one) for one in interfaces),
        "command": tuple(command),
    }
    return LabContainer(**(item | fixed))  # type: ignore[arg-type]
