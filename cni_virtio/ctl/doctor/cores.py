"""CPUs: those that the configuration names must be there, and each worker's its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cni_virtio.ctl.doctor.finding import Check, Finding
from cni_virtio.ctl.doctor.patient import Patient


def cores(patient: Patient) -> Iterator[Finding]:
    """Look whether the dataplane's threads can run where they are told to."""
    section = patient.config.dataplane
    for fault in patient.faults("dataplane.main_core", "dataplane.cores"):
        if "offline" in fault:
            remedy = "echo 1 > /sys/devices/system/cpu/cpu<N>/online, or name another core there"
        else:
            remedy = "widen the agent's cpuset (AllowedCPUs=, taskset), or name another core there"
        yield Finding(fault, "the agent does not start, for a thread could not run", remedy)
    if section.main_core in section.cores and len(patient.machine.allowed_cores) > 1:
        yield Finding(
            f"{patient.file}: dataplane.main_core {section.main_core} is a worker's core too",
            "packets wait while the control thread runs, and it waits for them",
            "set dataplane.main_core to a core that is not in dataplane.cores",
        )


CHECKS: Final = (Check("cores", "the dataplane's cores are online, open to it and its own", cores),)
