"""The plugin that runtimes execute: there, ours, and of the version of everything else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cni_virtio
from cni_virtio.ctl.doctor.finding import Check, Finding, NotCheckedError
from cni_virtio.ctl.doctor.networks import TYPE
from cni_virtio.ctl.doctor.patient import Patient

_VERSION: Final = re.compile(rb"cni-virtio (\d[\w.+-]*)\0")
_LARGEST_SHIM_BYTES: Final = 16 << 20
_BUILT: Final = Path(cni_virtio.__file__).parents[1] / "build" / "bin" / TYPE
_NO_SHIM: Final = "runtimes find no plugin of type cni-virtio: no container starts"


def shim(patient: Patient) -> Iterator[Finding]:
    """Look whether the plugin that runtimes execute is there, and ours."""
    place = patient.plugin(TYPE)
    if place is None:
        folders = ", ".join(map(str, patient.cni_bin_dirs))
        yield Finding(f"the shim {TYPE} is not in {folders}", _NO_SHIM, _install(patient))
    elif not os.access(place, os.X_OK):
        yield Finding(f"{place} is not executable", _NO_SHIM, f"chmod 0755 {place}")
    elif _version_of(place) is None:
        why = "it cannot talk to this agent, if it is a CNI plugin at all"
        what = f"{place} is another program, or a shim of before 0.1.0"
        yield Finding(what, why, _install(patient))
    elif _version_of(place) == _version_of(_BUILT) and place.read_bytes() != _BUILT.read_bytes():
        why = "it is of the same version, but may not be what this agent was tested with"
        yield Finding(f"{place} is not the shim built here, {_BUILT}", why, _install(patient))


def versions(patient: Patient) -> Iterator[Finding]:
    """Look whether shim, agent, dataplane and these tools are of one version."""
    why = "they are made for each other only within one version"
    wanted = cni_virtio.__version__
    restart = "restart cni-virtio-agent: it still runs what was installed before"
    try:
        agent = str(patient.status.get("version"))
    except NotCheckedError:
        agent = wanted
    if agent != wanted:
        yield Finding(f"the agent is {agent}, installed is {wanted}", why, restart)
    dataplane = str((_status(patient).get("dataplane") or {}).get("version") or agent)
    if dataplane != agent:
        what = f"the dataplane is {dataplane}, the agent {agent}"
        yield Finding(what, *_of_older_dataplane(patient, dataplane, agent))
    place = patient.plugin(TYPE)
    has = _version_of(place) if place else None
    if has not in (None, agent):
        what = f"the shim {place} is {has}, the agent {agent}"
        yield Finding(what, why, _install(patient) if has != wanted else restart)


def _of_older_dataplane(patient: Patient, dataplane: str, agent: str) -> tuple[str, str]:
    """Say why it matters that the dataplane was not upgraded with the agent, and what to do."""
    if _minor(dataplane) == _minor(agent):
        why = "that works within one minor version, without what is new or mended in the other"
        return why, f"when a second without packets suits you, {patient.restart_dataplane}"
    why = "they work together only within one minor version: ADD may be refused"
    return why, f"{patient.restart_dataplane}; no packet moves for a second"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _status(patient: Patient) -> dict[str, Any]:
    return {} if patient.agent_error else patient.status


def _version_of(place: Path) -> str | None:
    """Read a shim's version from its file: a program that may be another's is not executed."""
    try:
        with place.open("rb") as file:
            found = _VERSION.search(file.read(_LARGEST_SHIM_BYTES))
    except FileNotFoundError:
        return None
    return found[1].decode() if found else None


def _install(patient: Patient) -> str:
    version = cni_virtio.__version__
    source = _BUILT if _BUILT.exists() else f"<the shim of version {version}>"
    return f"install -D -m 0755 {source} {patient.cni_bin_dirs[0] / TYPE}"


CHECKS: Final = (
    Check("shim", "the plugin that runtimes execute is there", shim),
    Check("versions", "shim, agent, dataplane and these tools are of one version", versions),
)
