"""Source NAT of what containers send beyond their subnet, as the reference bridge plugin has it.

One nftables table, which is there while somebody needs it. Its sets hold every address that is
masqueraded, and the subnets that it reaches without that: a change costs the same however many
there are, and leaves the rules alone.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface, collapse_addresses, ip_interface
from pathlib import Path
from typing import Final, NamedTuple

from cni_virtio.state import Attachment, Key

log = logging.getLogger(__name__)

_DEFAULT_STATE_DIR: Final = Path("/run/cni-virtio/state")
_PATIENCE_S: Final = 10.0
_LONGEST_COMMENT: Final = 128
_SYSTEM_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"

_TABLE: Final = """\
add table inet {table}
add set inet {table} sources4 {{ type ipv4_addr; }}
add set inet {table} sources6 {{ type ipv6_addr; }}
add set inet {table} local4 {{ type ipv4_addr . ipv4_addr; flags interval; }}
add set inet {table} local6 {{ type ipv6_addr . ipv6_addr; flags interval; }}
add chain inet {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
add rule inet {table} postrouting ip daddr 224.0.0.0/4 return
add rule inet {table} postrouting ip6 daddr ff00::/8 return
add rule inet {table} postrouting ip saddr . ip daddr @local4 return
add rule inet {table} postrouting ip6 saddr . ip6 daddr @local6 return
add rule inet {table} postrouting ip saddr @sources4 masquerade
add rule inet {table} postrouting ip6 saddr @sources6 masquerade
"""


class MasqueradeError(OSError):
    """The rules could not be changed; the text says why."""

    def __str__(self) -> str:
        return str(self.strerror)


class Element(NamedTuple):
    """An element of one of the table's sets, as nft writes it."""

    set_name: str
    text: str


Addresses = tuple[IPv4Interface | IPv6Interface, ...]


class Masquerade:
    """Keeps the table in step with the attachments; safe to share by threads."""

    def __init__(self, state_dir: Path) -> None:
        self.table = table_name(state_dir)
        self._lock = threading.Lock()
        self._wanted: dict[Key, Addresses] = {}

    def sync(self, attachments: Callable[[], Iterable[Attachment]]) -> None:
        """Have just these masqueraded, whatever is there. Raises MasqueradeError."""
        with self._lock:  # asked within, so that none is missed that comes meanwhile
            asking = (item for item in attachments() if item.ip_masq and item.ips)
            self._wanted = {item.key: _addresses(item) for item in asking}
            if self._wanted or shutil.which("nft", path=_path()):
                self._rewrite()

    def add(self, attachment: Attachment) -> None:
        """Have an attachment's addresses masqueraded, if it asks for that.

        Raises MasqueradeError, and wants it no more then.
        """
        if not attachment.ip_masq or not attachment.ips:
            return
        with self._lock:
            try:
                self._change(self._wanted | {attachment.key: _addresses(attachment)})
            except MasqueradeError:
                self._wanted.pop(attachment.key, None)
                raise

    def remove(self, key: Key) -> None:
        """Masquerade an attachment no more. Raises MasqueradeError."""
        with self._lock:
            if key not in self._wanted:
                return
            kept = self._wanted
            try:
                self._change({other: each for other, each in kept.items() if other != key})
            except MasqueradeError:
                self._wanted = kept  # so that it is tried again
                raise

    def missing(self, attachment: Attachment) -> str:
        """Name an address that should be masqueraded and is not; "" if all are."""
        if not attachment.ip_masq:
            return ""
        for element in elements({attachment.key: _addresses(attachment)}):
            if element.set_name.startswith("sources"):
                command = f"get element inet {self.table} {element.set_name} {{ {element.text} }}"
                try:
                    _nft(command)
                except MasqueradeError:
                    return element.text
        return ""

    def _change(self, wanted: dict[Key, Addresses]) -> None:
        touched = _touched(self._wanted, wanted)
        before, after = elements(_only(touched, self._wanted)), elements(_only(touched, wanted))
        is_first = not self._wanted
        self._wanted = wanted
        if is_first or not wanted:
            self._rewrite()
            return
        lines = [self._line("delete", element, "") for element in before if element not in after]
        lines += [
            self._line("add", element, comment)
            for element, comment in after.items()
            if element not in before
        ]
        if not lines:
            return
        try:
            _nft("\n".join(lines))
        except MasqueradeError as error:
            # Somebody flushed the table, perhaps: all of it anew then.
            log.warning("masquerading: %s; the table is made anew", error)
            self._rewrite()

    def _rewrite(self) -> None:
        """Put all that is wanted in place of all that is there, in one transaction."""
        lines = [f"add table inet {self.table}", f"delete table inet {self.table}"]
        if self._wanted:
            lines.append(_TABLE.format(table=self.table))
        lines += [self._line("add", *item) for item in elements(self._wanted).items()]
        _nft("\n".join(lines))

    def _line(self, verb: str, element: Element, comment: str) -> str:
        named = f' comment "{comment}"' if comment else ""
        return f"{verb} element inet {self.table} {element.set_name} {{ {element.text}{named} }}"


def elements(wanted: Mapping[Key, Addresses]) -> dict[Element, str]:
    """Return the elements of all sets, each with the attachment's name for people to read.

    An address that two attachments have is there once, with the subnets of both.
    """
    owners: dict[object, Key] = {}
    subnets: dict[IPv4Interface | IPv6Interface, list[IPv4Interface | IPv6Interface]] = {}
    for key, ips in wanted.items():
        for ip in ips:
            bare = ip_interface(ip.ip)
            owners.setdefault(bare, key)
            subnets.setdefault(bare, []).append(ip)
    found: dict[Element, str] = {}
    for bare, ips_of_one in subnets.items():
        version, name = bare.version, "/".join(owners[bare])
        comment = "".join(char for char in name if char.isprintable() and char not in '"\\')
        found[Element(f"sources{version}", str(bare.ip))] = comment[:_LONGEST_COMMENT]
        for network in collapse_addresses([ip.network for ip in ips_of_one]):  # type: ignore[type-var]
            found[Element(f"local{version}", f"{bare.ip} . {network}")] = ""
    return found


def _touched(before: Mapping[Key, Addresses], after: Mapping[Key, Addresses]) -> set[object]:
    changed = [key for key in {*before, *after} if before.get(key) != after.get(key)]
    return {ip.ip for key in changed for ip in (*before.get(key, ()), *after.get(key, ()))}


def _only(chosen: set[object], wanted: Mapping[Key, Addresses]) -> dict[Key, Addresses]:
    return {key: tuple(ip for ip in ips if ip.ip in chosen) for key, ips in wanted.items()}


def table_name(state_dir: Path) -> str:
    """Name the table; agents that share a machine have folders, and so tables, of their own."""
    if state_dir == _DEFAULT_STATE_DIR:
        return "cni_virtio"
    return f"cni_virtio_{hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:8]}"


def _addresses(attachment: Attachment) -> Addresses:
    return tuple(ip_interface(text) for text in attachment.ips)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"


def check_program() -> str:
    """Return the path of nft. Raises MasqueradeError if it is not installed."""
    program = shutil.which("nft", path=_path())
    if program is None:
        text = "ipMasq: the program nft is missing: install nftables beside the agent"
        raise MasqueradeError(errno.ENOENT, text)
    return program


def _nft(commands: str) -> None:
    """Have nft carry out all of the commands or none."""
    program = check_program()
    try:
        done = subprocess.run(
            [program, "-f", "-"],
            input=commands,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MasqueradeError(errno.EIO, f"ipMasq: {program}: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise MasqueradeError(errno.EIO, f"ipMasq: nft: {said[0]}")
