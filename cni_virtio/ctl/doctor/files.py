"""The folders of the agent: sockets, records, and room for them."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cni_virtio.config_checks import SOCKET_PATH_MAX_BYTES
from cni_virtio.ctl.doctor.finding import Check, Finding
from cni_virtio.ctl.doctor.patient import Patient

_NO_SOCKET: Final = "ADD of a vhost-user interface fails"
_NO_RECORD: Final = "ADD fails: an attachment that is on no record could never be removed"
_LEAST_FREE_BYTES: Final = 1 << 20
_LEAST_FREE_INODES: Final = 16
_BELOW_SOCKET_DIR: Final = "/{}/{}.sock"
_LONGEST_ID: Final = "0" * 64  # containerd's, CRI-O's and podman's
_USUAL_IFNAME: Final = "net99"


def socket_dir(patient: Patient) -> Iterator[Finding]:
    """Look whether the agent can make folders for sockets, and nobody else can."""
    folder = patient.config.agent.socket_dir
    yield from _folder(patient, folder, "agent.socket_dir", 0o711, _NO_SOCKET)


def state_dir(patient: Patient) -> Iterator[Finding]:
    """Look whether the agent can write records, and there is room for them."""
    folder = patient.config.agent.state_dir
    yield from _folder(patient, folder, "agent.state_dir", 0o700, _NO_RECORD)
    place = _nearest(folder)
    room = os.statvfs(place)
    if room.f_bavail * room.f_frsize < _LEAST_FREE_BYTES:
        what = f"agent.state_dir: {place} is full: {room.f_bavail * room.f_frsize >> 10} KiB free"
        yield Finding(what, _NO_RECORD, f"free space there: du -xh {_mount(place)} | sort -h")
    elif room.f_files and room.f_favail < _LEAST_FREE_INODES:
        what = f"agent.state_dir: {place} is full: {room.f_favail} inodes free"
        yield Finding(what, _NO_RECORD, f"remove files there: df -i {place}")


def socket_paths(patient: Patient) -> Iterator[Finding]:
    """Look whether the path of a socket has room in the kernel's 108 bytes."""
    folder = str(patient.config.agent.socket_dir)
    longest = folder + _BELOW_SOCKET_DIR.format(_LONGEST_ID, _USUAL_IFNAME)
    over = len(os.fsencode(longest)) - SOCKET_PATH_MAX_BYTES
    if over > 0:
        yield Finding(
            f"agent.socket_dir: {folder} is {over} bytes too long: with a container id of 64"
            f" characters the socket of {_USUAL_IFNAME} has a path of 108 bytes or more",
            f"{_NO_SOCKET}, but in pods, whose uid is shorter",
            "set agent.socket_dir to a shorter path such as /run/cni-virtio/vhost",
        )


def quarantine(patient: Patient) -> Iterator[Finding]:
    """Look whether records were put away because they could not be read."""
    folder = patient.config.agent.state_dir / "quarantine"
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if names:
        yield Finding(
            f"unreadable records, {len(names)} in all, lie in {folder}, such as {names[0]}",
            "what they stood for may be left over: a lease of the IPAM plugin, a socket",
            f"remove by hand what they name, then rm {folder}/*",
        )


def _folder(patient: Patient, folder: Path, key: str, mode: int, why: str) -> Iterator[Finding]:
    place = _nearest(folder)
    found = place.stat()
    user, uid = _name(patient.agent_uid), patient.agent_uid
    if not stat.S_ISDIR(found.st_mode):
        yield Finding(f"{key}: {place} is not a folder", why, f"rm {place}")
    elif os.statvfs(place).f_flag & os.ST_RDONLY:
        what = f"{key}: {place} is on a read-only file system"
        yield Finding(what, why, f"mount -o remount,rw {_mount(place)}")
    elif place == folder and (found.st_uid != uid or _unfit(found.st_mode)):
        what = f"{key}: {folder} is of {_name(found.st_uid)}, mode {found.st_mode & 0o7777:04o}"
        hazard = f"{why}, or others put something else there"
        yield Finding(what, hazard, f"chown {user} {folder} && chmod {mode:04o} {folder}")


def _unfit(mode: int) -> bool:
    """Whether the owner may not make files in a folder, or others may."""
    return mode & 0o300 != 0o300 or bool(mode & 0o022)


def _nearest(folder: Path) -> Path:
    """Return the folder, or what it would be made in."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _mount(place: Path) -> Path:
    return next(each for each in (place, *place.parents) if each.is_mount())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


CHECKS: Final = (
    Check("socket_dir", "the agent, and nobody else, can make vhost-user sockets", socket_dir),
    Check("paths", "paths of vhost-user sockets stay under 108 bytes", socket_paths),
    Check("state_dir", "the agent can write its records", state_dir),
    Check("records", "every record could be read", quarantine),
)
