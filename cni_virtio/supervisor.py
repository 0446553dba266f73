"""Keeps a dataplane running: adopts the one that is there, starts one if not, again and again.

Where another supervisor does the starting, this one waits for what that has started.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any, Final

from cni_virtio import cores
from cni_virtio.config import AgentConfig
from cni_virtio.dataplane_process import (
    Callbacks,
    DataplaneProcess,
    Starter,
    StartError,
    find,
)
from cni_virtio.hugepages import Hugepages
from cni_virtio.outage import BackOff, Outage
from cni_virtio.upgrade import NoDataplaneError, UpgradeError, Upgrader, summary
from dataplane.client import DataplaneClient
from dataplane.wire import JsonObject

log = logging.getLogger(__name__)

_NOT_OURS: Final = (
    "dataplane.supervised_by: other: its own supervisor restarts it, as by"
    " `systemctl restart cni-virtio-dataplane`, or by deleting its pod; the agent gives the new"
    " one all ports as soon as it answers"
)
_NO_HUGEPAGES: Final = "the dataplane uses ordinary pages, which is slower than hugepages"
_WAY_BACK: Final = "; once there are enough of them, cni-virtioctl upgrade goes over to them"
_LOOK_AGAIN_S: Final = 0.05  # for a dataplane that another supervisor is starting
_MAY_START_LATER_S: Final = 2.0  # than the agent, beside which it is started


class Supervisor:
    """Runs in a thread of its own from `start` to `stop`."""

    def __init__(
        self,
        config: AgentConfig,
        client: DataplaneClient,
        hugepages: Hugepages,
        callbacks: Callbacks,
    ) -> None:
        self._config = config
        self._hugepages = hugepages
        self._callbacks = callbacks
        self._starts = config.dataplane.supervised_by == "agent"
        self._starter = Starter(config)
        self._upgrader = Upgrader(config, client, hugepages, self._starter)
        self._stopping = threading.Event()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self._keep = False
        self._process: DataplaneProcess | None = None
        self._restarts = 0
        self._back_off = BackOff()
        self._said = ""
        self._outage: Outage | None = None
        self._last_error = ""
        self._page_note = ""
        self._core_notes: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, keep: bool) -> None:
        """End; the dataplane ends as well unless `keep`, or another supervisor has it."""
        keep = keep or not self._starts
        self._keep = keep
        self._stopping.set()
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._upgrader.answer(UpgradeError("the agent is stopping"))
        os.close(self._wake_fd)
        if not keep:
            self._hugepages.give_back()

    def upgrade(self) -> JsonObject:
        """Have a new process take the dataplane's place; return what was done.

        Raises UpgradeError.
        """
        if not self._starts:
            raise UpgradeError(_NOT_OURS)
        if self._process is None:
            reason = self._last_error or "it has not been started yet"
            raise UpgradeError(f"the dataplane is not running: {reason}")
        request = self._upgrader.request()
        os.eventfd_write(self._wake_fd, 1)
        return request.wait()

    def status(self) -> dict[str, Any]:
        """Return what people want to know of the process."""
        process = self._process
        known = dict(process.info) if process else {}
        return known | {
            "running": process is not None,
            "pid": process.pid if process else None,
            "restarts": self._restarts,
            "last_error": self._last_error,
        }

    def messages(self) -> list[str]:
        """Return what is not as configured and works all the same."""
        notes = (self._pages_note(), self._back_off.note(), *self._core_notes, self._differences())
        return [note for note in notes if note]

    def _pages_note(self) -> str:
        """Say that the dataplane makes do without hugepages, and the way back to them."""
        process = self._process
        if process is None:
            return self._page_note
        if process.info.get("memory", {}).get("huge", True):
            return ""
        return f"{self._page_note or _NO_HUGEPAGES}{_WAY_BACK if self._starts else ''}"

    def _run(self) -> None:
        if self._starts:
            self._keep_one_running()
        else:
            self._follow()

    def _follow(self) -> None:
        """Attend to one after the other that another supervisor starts."""
        where = self._config.dataplane.socket
        alone_since_s = time.monotonic()
        while not self._stopping.is_set():
            process = find(self._config.dataplane.socket)
            if process is not None:
                self._attend(process)
                self._restarts += not self._stopping.is_set()
                alone_since_s = time.monotonic()
            elif time.monotonic() - alone_since_s > _MAY_START_LATER_S:
                self._fail(f"nothing serves {where}; dataplane.supervised_by: other is to start it")
            self._stopping.wait(_LOOK_AGAIN_S)

    def _keep_one_running(self) -> None:
        self._upgrader.clear()
        process = find(self._config.dataplane.socket)
        if process is None:
            self._core_notes = cores.notes(self._config.dataplane.cores)
        for note in self._core_notes:
            log.warning("dataplane: %s", note)
        while not self._stopping.is_set():
            process = process or self._start_one()
            if process is not None:
                self._attend(process)
                process = None
            if not self._stopping.is_set() and not self._stopping.wait(self._wait_s()):
                self._restarts += 1
        if process is not None:  # told to stop before it was attended to
            self._finish(process)

    def _wait_s(self) -> float:
        """Return how long to wait after a dataplane that has ended, or has not come to be."""
        wait_s = self._back_off.next_s()
        note = self._back_off.note()
        if note and note != self._said:
            log.warning("dataplane: %s", note)
        self._said = note
        return wait_s

    def _start_one(self) -> DataplaneProcess | None:
        if self._outage:
            self._outage.waited()
        self._page_note = self._hugepages.provide(self._config.dataplane.memory_bytes)
        if self._page_note:
            log.warning("dataplane: %s", self._page_note)
        try:
            return self._starter.start(huge=not self._page_note)
        except StartError as error:
            # One that an agent had started just before it was killed may have come up meanwhile.
            other = find(self._config.dataplane.socket)
            if other is None:
                self._fail(f"it cannot start: {error}")
            return other

    def _attend(self, process: DataplaneProcess) -> None:
        """Be with a dataplane from its first answer to its end, or to ours."""
        self._process = process
        how = "found" if process.adopted else "started"
        log.info("dataplane %s, pid %d", how, process.pid)
        self._back_off.serves()
        if self._outage:
            self._outage.started()
        if process.adopted and (difference := self._differences()):
            log.warning("%s", difference)
        self._callbacks.give_all(process)
        if self._outage:
            log.info("%s", self._outage.summary(*self._callbacks.tally()))
            self._outage = None
        while not process.wait_end(self._wake_fd):
            os.eventfd_read(self._wake_fd)
            if self._stopping.is_set():
                self._finish(process)
                self._process = None
                return
            if self._upgrader.pending():
                successor = self._upgrade(process)
                if successor is None:
                    return
                process = successor
        self._outage = Outage()
        reason, words = process.reap(), self._starter.last_words()
        self._fail(f"{reason}; it last said: {words}" if words else reason)
        self._process = None  # last: who sees none finds it offline

    def _upgrade(self, old: DataplaneProcess) -> DataplaneProcess | None:
        """Swap the process; return the one to attend to, None if there is none."""
        try:
            new, silent_s = self._upgrader.swap(old, self._callbacks)
        except UpgradeError as error:
            log.error("dataplane: upgrade: %s", error)
            self._upgrader.answer(error)
            return old
        except NoDataplaneError as error:
            self._fail(str(error))
            self._process = None
            self._upgrader.answer(UpgradeError(f"{error}; it is tried again"))
            return None
        except Exception as error:
            log.exception("dataplane: upgrade")
            old.stop()
            self._fail(f"the upgrade failed: {error}")
            self._process = None
            self._upgrader.answer(UpgradeError(f"{error}; the dataplane is started anew"))
            return None
        self._process = new
        self._back_off.serves()
        done = summary(old, new, silent_s, *self._callbacks.tally())
        log.info("dataplane upgraded: %s", done["text"])
        self._upgrader.answer(done)
        return new

    def _finish(self, process: DataplaneProcess) -> None:
        self._callbacks.offline("the agent is stopping")
        if self._keep:
            process.leave()
        else:
            process.stop()

    def _fail(self, reason: str) -> None:
        self._callbacks.offline(reason)
        if reason != self._last_error:
            log.error("dataplane: %s", reason)
        self._last_error = reason

    def _differences(self) -> str:
        """Say where an adopted dataplane is not what the configuration asks for."""
        process, wanted = self._process, self._config.dataplane
        if process is None:
            return ""
        pairs = [
            ("cores", process.info.get("cores"), list(wanted.cores)),
            ("idle", process.info.get("idle"), wanted.idle),
        ]
        found = [f"{name} {has}, configured {want}" for name, has, want in pairs if has != want]
        if not found:
            return ""
        return f"the running dataplane differs: {'; '.join(found)}; stop it to have it restarted"
