"""The twins of uplinks: persistent taps in the host, for what the host itself sends and receives.

A twin is the host's own way to the network, so it outlives dataplane and agent with everything
that the host has put on it. It goes when the configuration has it no more, or with its device.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from cni_virtio import links, tap, whole_file
from cni_virtio.config import Uplink
from cni_virtio.links import LinkConfig
from cni_virtio.netns import NetnsError
from dataplane.wire import PortSpec

log = logging.getLogger(__name__)

_FOLDER: Final = "twins"


class Record(NamedTuple):
    """What is kept of a twin, in a file of its interface's name."""

    ifname: str
    uplink: str
    device: str


class Twins:
    """The twins in the agent's own namespace, and the record of them under `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / _FOLDER

    def open(self, spec: PortSpec, ifname: str, device: str) -> list[int]:
        """Make a twin, or take up the one that is there; return the fds of its port.

        It gets the uplink's MAC and MTU, and is set up; addresses are the host's to give. Raises
        NetnsError or OSError.
        """
        uplink = (spec.uplink or "").removeprefix("uplink:")
        self._record(Record(ifname, uplink, device))
        fds, made = tap.create_or_attach(ifname, spec.queues)
        try:
            # Whether it listens to router advertisements is the host's to say.
            config = LinkConfig(mac=spec.mac, mtu=spec.mtu, accept_ra=True)
            links.configure(None, ifname, config)
        except NetnsError:
            tap.close_all(fds)
            raise
        if made:
            log.info("%s: the twin of uplink %s, MAC %s", ifname, uplink, spec.mac)
        return tap.for_dataplane(fds, None, vhost_net=spec.kind == "ethdev")

    def prune(self, uplinks: Iterable[Uplink]) -> None:
        """Remove what earlier configurations had and this one has not."""
        kept = {uplink.exception.name for uplink in uplinks if uplink.exception}
        for record in self.records():
            if record.ifname not in kept:
                self.remove(record)

    def remove(self, record: Record) -> bool:
        """Remove a twin and its record; False if there was none, or the kernel keeps it."""
        try:
            removed = links.delete_link(None, record.ifname, "tun")
        except NetnsError as error:
            log.warning("%s stays, recorded as the twin of an uplink: %s", record.ifname, error)
            if error.errno != errno.EPERM:
                return False
            removed = False
        if removed:
            log.info("%s: removed, the twin of uplink %s", record.ifname, record.uplink)
        with contextlib.suppress(OSError):
            (self._folder / record.ifname).unlink(missing_ok=True)
        return removed

    def records(self) -> list[Record]:
        """Return what is on record."""
        return list(self._read())

    def _read(self) -> Iterator[Record]:
        for file in sorted(self._folder.glob("*")):
            if whole_file.is_unfinished(file):
                continue
            uplink = device = "unknown"  # its name alone says which twin is to be removed
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                kept: Any = json.loads(file.read_text("utf-8"))
                uplink, device = str(kept["uplink"]), str(kept["device"])
            yield Record(file.name, uplink, device)

    def _record(self, record: Record) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        kept = {"uplink": record.uplink, "device": record.device}
        whole_file.write(self._folder / record.ifname, json.dumps(kept).encode())
