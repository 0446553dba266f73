"""The options of the dataplane process, checked before anything is started."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from typing import NoReturn

from dataplane import fields

DEFAULT_SOCKET = "/run/cni-virtio/dataplane.sock"
LOG_LEVELS = ("debug", "info", "warning", "error")
MIN_MEMORY_MB = 16

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
}
_SIZE = re.compile(r"(\d{1,15})([KMG]i?)?", re.ASCII)
_CORES = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
_PCI = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.ASCII | re.IGNORECASE)


class OptionError(Exception):
    """An option that cannot be used; the text says which, why, and what would do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the process was asked to be."""

    socket: str
    main_core: int
    cores: tuple[int, ...]
    memory_mb: int
    huge: bool
    seccomp: bool
    idle: str
    pci: tuple[str, ...]
    iova_mode: str | None
    log_level: str
    ready_fd: int | None
    only_if_awaited: bool

    @property
    def core_list(self) -> str:
        """The workers' cores, for people."""
        return ",".join(map(str, self.cores))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message} (--help lists the options)")


def parse(arguments: list[str]) -> Options:
    """Read the command line.

    :raises OptionError: an option is unknown, malformed, or asks for what the machine lacks.
    """
    given = _parser().parse_args(arguments)
    return Options(
        socket=_socket(given.socket),
        main_core=_existing("--main-core", (given.main_core,))[0],
        cores=_existing("--cores", _cores(given.cores)),
        memory_mb=_memory_mb(given.memory),
        huge=not given.no_huge,
        seccomp=not given.no_seccomp,
        idle=given.idle,
        pci=tuple(_pci(address) for address in given.pci),
        iova_mode=given.iova_mode,
        log_level=given.log_level,
        ready_fd=_ready_fd(given.ready_fd),
        only_if_awaited=given.only_if_awaited,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cni-virtio-dataplane",
        description="The packet forwarder of cni-virtio. The agent starts it.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--socket", metavar="PATH", default=DEFAULT_SOCKET, help="control socket (%(default)s)")
    add("--main-core", metavar="N", type=int, default=0, help="core of the control thread")
    add("--cores", metavar="LIST", default="1", help="cores of the workers, e.g. 1,2 or 1-3")
    add("--memory", metavar="SIZE", default="512Mi", help="memory for packets (%(default)s)")
    add("--idle", choices=("adaptive", "poll"), default="adaptive", help="sleep, or poll always")
    add("--pci", metavar="ADDR", action="append", default=[], help="a NIC to use; repeatable")
    add(
        "--iova-mode",
        choices=("pa", "va"),
        help="of the process that has the NICs until their ports are added here",
    )
    add("--no-huge", action="store_true", help="use ordinary pages in place of hugepages")
    add("--no-seccomp", action="store_true", help="filter no system calls of this process")
    add("--log-level", choices=LOG_LEVELS, default="info", help="least level logged (%(default)s)")
    add("--ready-fd", metavar="N", type=int, help="write 'ready' or 'error: REASON' to this fd")
    add("--only-if-awaited", action="store_true", help="end if nobody reads that fd by then")
    return parser


def _socket(path: str) -> str:
    try:
        return fields.socket_path(path, "--socket")
    except fields.WireError as e:
        raise OptionError(e.message) from None


def _cores(text: str) -> tuple[int, ...]:
    cores: list[int] = []
    for part in text.split(","):
        match = _CORES.fullmatch(part.strip())
        if not match:
            raise OptionError(f"--cores: {text!r} is no list of cores such as 1,2 or 1-3")
        first, last = int(match[1]), int(match[2] or match[1])
        cores += range(first, last + 1)
    if not cores or len(set(cores)) < len(cores):
        raise OptionError(f"--cores: {text!r} names a core twice, or none")
    return tuple(cores)


def _existing(option: str, cores: tuple[int, ...]) -> tuple[int, ...]:
    usable = os.sched_getaffinity(0)
    for core in cores:
        if core not in usable:
            have = ",".join(map(str, sorted(usable)))
            raise OptionError(f"{option}: core {core} is not among this process's cores ({have})")
    return cores


def _memory_mb(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match:
        raise OptionError(f"--memory: {text!r} is no size such as 512Mi or 1Gi")
    memory_mb = int(match[1]) * _UNITS[match[2] or ""] >> 20
    if memory_mb < MIN_MEMORY_MB:
        raise OptionError(f"--memory: {text} is less than {MIN_MEMORY_MB}Mi")
    return memory_mb


def _pci(address: str) -> str:
    if not _PCI.fullmatch(address):
        raise OptionError(f"--pci: {address!r} is no PCI address such as 0000:3b:00.0")
    return address.lower()


def _ready_fd(fd: int | None) -> int | None:
    if fd is not None:
        try:
            os.fstat(fd)
        except (OSError, OverflowError):
            raise OptionError(f"--ready-fd: {fd} is not an open file descriptor") from None
    return fd
