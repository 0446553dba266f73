"""CPUs: those that the configuration names must be there, and each worker's its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cni_virtio.ctl.doctor.finding import Check, Finding
from cni_virtio.ctl.doctor.patient import Patient

_CORE: Final = re.compile(r"core (\d+) does not exist or is offline")


def cores(patient: Patient) -> Iterator[Finding]:
    """Look whether the dataplane's threads can run where they are told to."""
    section = patient.config.dataplane
    for fault in patient.faults("dataplane.main_core", "dataplane.cores"):
        yield Finding(fault, "the agent does not start, for a thread could not run", _remedy(fault))
    if section.main_core in section.cores and len(patient.machine.allowed_cores) > 1:
        yield Finding(
            f"{patient.file}: dataplane.main_core {section.main_core} is a worker's core too",
            "packets wait while the control thread runs, and it waits for them",
            "set dataplane.main_core to a core that is not in dataplane.cores",
        )


def _remedy(fault: str) -> str:
    if not _CORE.search(fault):
        return (
            "put it in CPUAffinity= or AllowedCPUs= of the agent's unit (a cpuset, taskset or"
            " isolcpus keeps it out), or name another core there"
        )
    switch = Path(f"/sys/devices/system/cpu/cpu{_CORE.findall(fault)[0]}/online")
    if switch.exists():
        return f"echo 1 > {switch}, or name another core there"
    return "name another core there"


CHECKS: Final = (Check("cores", "the dataplane's cores are online, open to it and its own", cores),)
