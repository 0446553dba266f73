"""Which of the kernel's vhost threads serve which port."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from dataplane.wire import JsonObject

_PROC: Final = Path("/proc")
_COMM: Final = re.compile(r"vhost-([0-9]+)")
_START_TIME: Final = 19  # counted from the state, the first field after the name


def is_vhost_net(spec: JsonObject) -> bool:
    """Tell whether a port, as the dataplane shows its spec, is behind the kernel's vhost-net."""
    devargs = (spec.get("ethdev") or {}).get("devargs", "")
    return ",path=/dev/vhost-net" in devargs


def attribute(ports: Sequence[JsonObject], pid: int, proc: Path = _PROC) -> dict[str, list[int]]:
    """Return the threads by port; `ports` are all that the dataplane has, in its own order.

    The kernel starts a thread for each queue pair when a port is added, and the dataplane adds one
    port after the other: the oldest threads are the oldest port's. Empty where that cannot be,
    because threads of that process are not to be seen or have another origin.
    """
    queues = {
        port["spec"]["name"]: int(port["spec"]["queues"])
        for port in ports
        if is_vhost_net(port["spec"])
    }
    threads = [thread for _, thread in sorted(_threads(pid, proc))] if queues else []
    if len(threads) != sum(queues.values()):
        return {}
    left = iter(threads)
    return {name: [next(left) for _ in range(count)] for name, count in queues.items()}


def _threads(pid: int, proc: Path) -> Iterator[tuple[int, int]]:
    """Give start time and id of the vhost threads of a process.

    They are threads of the process itself from Linux 6.4 on, before that of the kernel, named
    after the thread that opened the device: one of the process, or one that has ended since.
    """
    tasks = _numbers(proc / str(pid) / "task")
    for number in tasks | _numbers(proc):
        folder = proc / str(pid) / "task" / str(number) if number in tasks else proc / str(number)
        opener = _opener(folder)
        if opener is None:
            continue
        started = _started(folder)
        if number in tasks or opener in tasks or not 0 < _started(proc / str(opener)) <= started:
            yield started, number


def _numbers(folder: Path) -> set[int]:
    try:
        return {int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()}
    except OSError:
        return set()


def _opener(folder: Path) -> int | None:
    match = _COMM.fullmatch(_read(folder / "comm").strip())
    return int(match[1]) if match else None


def _started(folder: Path) -> int:
    fields = _read(folder / "stat").rpartition(")")[2].split()
    return int(fields[_START_TIME]) if len(fields) > _START_TIME else 0


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
