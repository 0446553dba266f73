"""What a process may do that others may not: the capabilities that it keeps, and no new ones."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

DATAPLANE: Final = {
    "NET_ADMIN": "taps of vhost-net interfaces, AF_XDP uplinks",
    "NET_RAW": "AF_PACKET and AF_XDP uplinks",
    "SYS_ADMIN": "setns() into containers' namespaces, the BPF program of AF_XDP",
    "IPC_LOCK": "packet memory pinned for NICs",
    "DAC_OVERRIDE": "vhost-user sockets in folders that belong to the application's user",
    "CHOWN": "handing those sockets over to that user",
}
"""What the dataplane needs as long as it runs, since ports come at any time, and why."""

NUMBERS: Final = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "IPC_LOCK": 14,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
}
"""From linux/capability.h."""

_LAST: Final = Path("/proc/sys/kernel/cap_last_cap")
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_VERSION_3: Final = 0x20080522

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    """One of two: capabilities 0 to 31, and the rest."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class PrivilegeError(OSError):
    """A privilege could not be given up; the text says which."""

    def __str__(self) -> str:
        return str(self.strerror)


def keep_only(names: Iterable[str]) -> None:
    """Give up every other capability for good, and gaining any by executing a program.

    Capabilities belong to a thread, and new ones have those of the thread that starts them: to be
    called before there is a second one. What is executed later can have these at most.

    :raises PrivilegeError: the kernel refuses.
    """
    kept = {NUMBERS[name] for name in names}
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
    _prctl("ambient capabilities", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(int(_LAST.read_text()) + 1):
        if number not in kept and _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _drop_bound(number)
    header = _Header(_VERSION_3, 0)
    sets = (_Set * 2)()
    _check("reading capabilities", _libc.capget(ctypes.byref(header), sets))
    for i, each in enumerate(sets):
        mask = sum(1 << (number - 32 * i) for number in kept if number // 32 == i)
        each.permitted &= mask
        each.effective = each.permitted
        each.inheritable = 0
    _check("giving up capabilities", _libc.capset(ctypes.byref(header), sets))


def _drop_bound(number: int) -> None:
    """Bound what programs can gain. Who may not change the bound can gain nothing anyway."""
    if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
        log.debug("capability %d stays in the bounding set", number)


def _prctl(what: str, *arguments: int) -> None:
    four_more = (*arguments[1:], *(0,) * (5 - len(arguments)))
    _check(what, _libc.prctl(arguments[0], *map(ctypes.c_ulong, four_more)))


def _check(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise PrivilegeError(number, f"{what}: {os.strerror(number)}")
