"""Hugepages: those that the dataplane runs on, or those that it would get."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cni_virtio.ctl.doctor.finding import Check, Finding, NotCheckedError
from cni_virtio.ctl.doctor.patient import Patient

_POOL: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_PAGE_BYTES: Final = 2 << 20
_AVAILABLE: Final = re.compile(r"^MemAvailable:\s*(\d+) kB", re.MULTILINE)
_WHY: Final = "on ordinary pages the dataplane works, and every packet costs more"


def hugepages(patient: Patient) -> Iterator[Finding]:
    """Look at what the dataplane has, or else at what the kernel would give it."""
    for fault in patient.faults("dataplane.memory"):
        yield Finding(fault, "the agent does not start", "set a dataplane.memory that fits")
    wanted = -(-patient.config.dataplane.memory_bytes // _PAGE_BYTES)
    try:
        huge = bool(patient.dataplane["memory"]["huge"])
    except (NotCheckedError, KeyError):
        yield from _to_be_had(wanted, patient)
        return
    if not huge:
        told = [each for each in patient.status.get("messages", []) if "hugepages" in each]
        reason = f": {told[0].partition(';')[0]}" if told else ""
        what = f"the dataplane runs on ordinary pages{reason}"
        yield Finding(what, _WHY, _remedy(wanted, patient))


def _to_be_had(wanted: int, patient: Patient) -> Iterator[Finding]:
    number = _POOL / "nr_hugepages"
    try:
        free = int((_POOL / "free_hugepages").read_text())
        found = _AVAILABLE.search(Path("/proc/meminfo").read_text())
    except FileNotFoundError:
        what = f"the kernel has no hugepages of 2 MiB: {_POOL} is missing"
        yield Finding(what, _WHY, "boot a kernel with CONFIG_HUGETLBFS, and mount /sys")
        return
    more = int(found[1]) * 1024 // _PAGE_BYTES if found and os.access(number, os.W_OK) else 0
    if free + more < wanted:
        reason = f"memory for {more} more" if more else f"{number} cannot be written"
        what = f"no hugepages: {free} of {wanted} are free, and {reason}"
        yield Finding(what, _WHY, _remedy(wanted, patient))


def _remedy(wanted: int, patient: Patient) -> str:
    return (
        f"echo {wanted} > /proc/sys/vm/nr_hugepages on the node (hugepages={wanted} on the"
        f" kernel's command line makes it last), then {patient.restart_dataplane}"
    )


CHECKS: Final = (
    Check("hugepages", "the dataplane has its hugepages, or would get them", hugepages),
)
