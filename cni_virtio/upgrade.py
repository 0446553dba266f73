"""Swapping the dataplane for a new process, which runs the code that is installed by then.

The new one starts beside the present one, which serves meanwhile; all that the ports are silent
for is the time in which one gives them up and the other takes them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cni_virtio.config import AgentConfig
from cni_virtio.dataplane_process import (
    Callbacks,
    DataplaneProcess,
    Starter,
    StartError,
    find,
)
from cni_virtio.hugepages import Hugepages
from dataplane.client import DataplaneClient
from dataplane.wire import JsonObject

log = logging.getLogger(__name__)

PATIENCE_S: Final = 150.0
_TRIAL_BYTES: Final = 64 << 20


class UpgradeError(Exception):
    """The present dataplane serves on; the text says why."""


class NoDataplaneError(Exception):
    """The present dataplane is gone, and the new one does not start; the text says why."""


@dataclass
class Request:
    """An upgrade that somebody waits for."""

    answers: queue.SimpleQueue[JsonObject | UpgradeError] = field(default_factory=queue.SimpleQueue)

    def wait(self) -> JsonObject:
        """Return what was done. Raises UpgradeError."""
        try:
            answer = self.answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise UpgradeError(f"not done after {PATIENCE_S:g} s: see the agent's log") from None
        if isinstance(answer, UpgradeError):
            raise answer
        return answer


class Upgrader:
    """Carries out upgrades, in the supervisor's thread."""

    def __init__(
        self, config: AgentConfig, client: DataplaneClient, hugepages: Hugepages, starter: Starter
    ) -> None:
        self._config = config
        self._client = client
        self._hugepages = hugepages
        self._starter = starter
        self._lock = threading.Lock()
        self._pending: Request | None = None

    def request(self) -> Request:
        """Ask for an upgrade. Raises UpgradeError if one is under way."""
        with self._lock:
            if self._pending is not None:
                raise UpgradeError("an upgrade is under way already")
            self._pending = Request()
            return self._pending

    def pending(self) -> Request | None:
        """Return what is asked for, if anything."""
        return self._pending

    def answer(self, answer: JsonObject | UpgradeError) -> None:
        """End what was asked for."""
        with self._lock:
            request, self._pending = self._pending, None
        if request is not None:
            request.answers.put(answer)

    def swap(self, old: DataplaneProcess, callbacks: Callbacks) -> tuple[DataplaneProcess, float]:
        """Put a new process in the place of the present one, which is gone then.

        Returns it, and for how many seconds the ports were silent. Raises UpgradeError or
        NoDataplaneError.
        """
        self.clear()
        pages = self._hugepages.add_beside(self._config.dataplane.memory_bytes)
        if pages is None and old.info["memory"]["huge"]:
            return self._one_after_the_other(old, callbacks)
        try:
            new = self._start(old, huge=pages is not None)
            began_s = time.monotonic()
            try:
                callbacks.hand_over(self._take_place)
            except Exception as error:
                new.stop()
                if not old.serves(self._config.dataplane.socket):
                    old.stop()  # nobody could reach it
                    raise NoDataplaneError(f"the new dataplane was lost: {error}") from error
                text = f"the new dataplane does not take over, the present one serves on: {error}"
                raise UpgradeError(text) from error
            silent_s = time.monotonic() - began_s
            old.stop()
        finally:
            self._hugepages.take_back(pages or 0)
        return new, silent_s

    def clear(self) -> None:
        """Stop the new process of an upgrade in which an agent was killed."""
        left = find(self._beside)
        if left is not None:
            log.warning(
                "dataplane: one of an upgrade that did not end, pid %d, is stopped", left.pid
            )
            left.stop()

    def _start(
        self, old: DataplaneProcess, *, huge: bool, memory_bytes: int | None = None
    ) -> DataplaneProcess:
        iova_mode: str | None = "va"  # ordinary pages have no physical addresses to offer
        if huge:
            # Without NICs the present one's mode need not suit ours. One of an earlier version does
            # not tell: then they are tried, and had for the asking once it has given them up.
            iova_mode = old.info.get("iova_mode") if old.info.get("pci") else None
        try:
            return self._starter.start(
                huge=huge,
                socket_path=self._beside,
                memory_bytes=memory_bytes,
                iova_mode=iova_mode,
            )
        except StartError as error:
            text = f"the new dataplane does not start, the present one serves on: {error}"
            raise UpgradeError(text) from error

    def _one_after_the_other(
        self, old: DataplaneProcess, callbacks: Callbacks
    ) -> tuple[DataplaneProcess, float]:
        log.warning(
            "dataplane: upgrade: not enough hugepages for two: the new one starts when the present"
            " one has ended, and the ports are silent for that long"
        )
        self._start(old, huge=False, memory_bytes=_TRIAL_BYTES).stop()  # shows that it can start
        began_s = time.monotonic()
        callbacks.offline("it is being upgraded")
        old.stop()
        note = self._hugepages.provide(self._config.dataplane.memory_bytes)
        try:
            new = self._starter.start(huge=not note)
        except StartError as error:
            raise NoDataplaneError(f"the new dataplane does not start: {error}") from error
        callbacks.give_all(new)
        return new, time.monotonic() - began_s

    @property
    def _beside(self) -> Path:
        return Path(f"{self._config.dataplane.socket}~")

    def _take_place(self) -> None:
        new = DataplaneClient(str(self._beside))
        try:
            new.move(str(self._config.dataplane.socket))
        finally:
            new.close()
        self._client.close()  # its next connection is to the new one


def summary(
    old: DataplaneProcess, new: DataplaneProcess, silent_s: float, there: int, wanted: int
) -> JsonObject:
    """Return what an upgrade did, for programs, and as `text` for people."""
    silent_ms = round(1000 * silent_s)
    versions = [f"{each.info['version']} (pid {each.pid})" for each in (old, new)]
    return {
        "from": {"version": old.info["version"], "pid": old.pid},
        "to": {"version": new.info["version"], "pid": new.pid},
        "silent_ms": silent_ms,
        "ports": there,
        "ports_wanted": wanted,
        "text": f"{' -> '.join(versions)}, ports silent for {silent_ms} ms:"
        f" {there} of {wanted} are there",
    }
