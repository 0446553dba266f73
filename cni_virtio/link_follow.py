"""Lets the carrier of each twin follow the link of its uplink."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from cni_virtio import links
from cni_virtio.config import Uplink
from cni_virtio.netns import NetnsError
from cni_virtio.ports import uplink_port_name
from dataplane.client import DataplaneError, DataplaneUnavailable
from dataplane.wire import JsonObject

log = logging.getLogger(__name__)

_PERIOD_S: Final = 1.0
_ReadPort = Callable[[str], JsonObject | None]


class LinkFollower:
    """Looks once a second. `read_port` gives a port as the dataplane shows it, None if absent."""

    def __init__(self, uplinks: Sequence[Uplink], read_port: _ReadPort) -> None:
        self._uplinks = [uplink for uplink in uplinks if uplink.exception]
        self._read_port = read_port
        self._last: dict[str, bool] = {}
        self._refused: set[str] = set()

    def run(self, stopping: threading.Event) -> None:
        """Follow until told to stop: the body of a thread."""
        while self._uplinks and not stopping.wait(_PERIOD_S):
            for uplink in self._uplinks:
                self.follow(uplink)

    def follow(self, uplink: Uplink) -> None:
        """Bring one twin to the state of its uplink, and say it if that has changed."""
        assert uplink.exception is not None
        ifname = uplink.exception.name
        try:
            link_up, carrier = self._link_up(uplink), links.has_carrier(None, ifname)
            if link_up is None or carrier is None:
                return  # without an uplink's port its twin has none either, and so no carrier
            if carrier != link_up:
                links.set_carrier(None, ifname, link_up)
        except (DataplaneError, DataplaneUnavailable):
            return
        except NetnsError as error:
            self._refuse(ifname, error)
            return
        if self._last.get(ifname, True) != link_up:
            how = "up" if link_up else "down"
            log.warning("uplink %s: link is %s; %s follows", uplink.name, how, ifname)
        self._last[ifname] = link_up

    def _link_up(self, uplink: Uplink) -> bool | None:
        port = self._read_port(uplink_port_name(uplink.name))
        if port is None:
            return None
        link_up = bool(port["state"]["link_up"])
        if uplink.kind in ("af_xdp", "af_packet"):
            # These drivers of DPDK report a link whatever becomes of the kernel's interface.
            return link_up and bool(links.has_carrier(None, uplink.target))
        return link_up

    def _refuse(self, ifname: str, error: NetnsError) -> None:
        # EPERM: nobody holds the queues, the port is on its way.
        if error.errno != errno.EPERM and ifname not in self._refused:
            log.warning("%s does not follow its uplink's link: %s", ifname, error)
            self._refused.add(ifname)
