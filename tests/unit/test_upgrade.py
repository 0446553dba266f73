"""Swapping the dataplane: which process is started when, and what is left if that fails."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from cni_virtio.config import load
from cni_virtio.dataplane_process import Callbacks, StartError
from cni_virtio.upgrade import NoDataplaneError, UpgradeError, Upgrader, summary
from dataplane.client import DataplaneUnavailable

PAGES = 64


class Process:
    """A dataplane process as far as the swap sees one."""

    def __init__(self, log: list[str], name: str, *, huge: bool = True) -> None:
        self._log, self.name, self.pid = log, name, 7
        self.info: dict[str, Any] = {"version": "0.1.0", "memory": {"huge": huge}}
        self.info |= {"iova_mode": "pa", "pci": ["0000:3b:00.0"]}
        self.is_reachable = True

    def serves(self, _path: Path) -> bool:
        return self.is_reachable

    def stop(self) -> None:
        self._log.append(f"stop {self.name}")


class Parts:
    """All that the swap works with; `log` tells what it did."""

    def __init__(self, directory: Path) -> None:
        self.log: list[str] = []
        self.room: int | None = PAGES
        self.failing_starts: set[int] = set()
        self.starts = 0
        self.hand_over_fails = False
        config = directory / "agent.yaml"
        config.write_text(f"dataplane: {{socket: {directory}/d.sock}}\n")
        here: Any = self
        self.upgrader = Upgrader(load(config), here, here, here)
        self.callbacks = Callbacks(
            lambda process: self.log.append(f"online {getattr(process, 'name', '')}"),
            lambda reason: self.log.append(f"offline: {reason}"),
            lambda: (5, 5),
            self.hand_over,
        )

    def swap(self, old: Process) -> Process:
        any_old: Any = old
        new: Any = self.upgrader.swap(any_old, self.callbacks)[0]
        return new  # type: ignore[no-any-return]

    def hand_over(self, _take_place: object) -> None:
        self.log.append("hand over")
        if self.hand_over_fails:
            raise DataplaneUnavailable("it is gone")

    def add_beside(self, _bytes: int) -> int | None:
        return self.room

    def take_back(self, pages: int) -> None:
        self.log.append(f"take back {pages}")

    def provide(self, _bytes: int) -> str:
        return ""

    def start(
        self,
        *,
        huge: bool,
        socket_path: Path | None = None,
        memory_bytes: int | None = None,
        iova_mode: str | None = None,
    ) -> Process:
        self.starts += 1
        where = socket_path.name if socket_path else "its place"
        size = f", {memory_bytes >> 20} MiB" if memory_bytes else ""
        nics = f", NICs later: {iova_mode}" if iova_mode else ""
        self.log.append(f"start at {where}{', huge' if huge else ''}{size}{nics}")
        if self.starts in self.failing_starts:
            raise StartError("no memory")
        return Process(self.log, f"new {self.starts}", huge=huge)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def test_the_new_one_starts_beside_the_present_one(parts: Parts) -> None:
    assert parts.swap(Process(parts.log, "old")).name == "new 1"
    assert parts.log == [
        "start at d.sock~, huge, NICs later: pa",
        "hand over",
        "stop old",
        f"take back {PAGES}",
    ]


def test_one_that_does_not_start_changes_nothing(parts: Parts) -> None:
    parts.failing_starts = {1}
    with pytest.raises(UpgradeError, match="the present one serves on: no memory"):
        parts.swap(Process(parts.log, "old"))
    assert parts.log == ["start at d.sock~, huge, NICs later: pa", f"take back {PAGES}"]


def test_one_that_does_not_take_over_is_ended(parts: Parts) -> None:
    parts.hand_over_fails = True
    with pytest.raises(UpgradeError, match="does not take over"):
        parts.swap(Process(parts.log, "old"))
    assert parts.log[-3:] == ["hand over", "stop new 1", f"take back {PAGES}"]


def test_one_that_is_lost_as_it_takes_over_takes_the_present_one_along(parts: Parts) -> None:
    """Nobody could reach that one any more, and nobody would start another."""
    parts.hand_over_fails = True
    old = Process(parts.log, "old")
    old.is_reachable = False
    with pytest.raises(NoDataplaneError, match="the new dataplane was lost: it is gone"):
        parts.swap(old)
    assert parts.log[-4:] == ["hand over", "stop new 1", "stop old", f"take back {PAGES}"]


def test_without_hugepages_for_two_one_follows_the_other(parts: Parts) -> None:
    parts.room = None
    assert parts.swap(Process(parts.log, "old")).name == "new 2"
    assert parts.log == [
        "start at d.sock~, 64 MiB, NICs later: va",  # to see whether it starts at all
        "stop new 1",
        "offline: it is being upgraded",
        "stop old",
        "start at its place, huge",
        "online new 2",
    ]


def test_without_hugepages_for_two_one_that_cannot_start_changes_nothing(parts: Parts) -> None:
    parts.room, parts.failing_starts = None, {1}
    with pytest.raises(UpgradeError, match="the present one serves on"):
        parts.swap(Process(parts.log, "old"))
    assert parts.log == ["start at d.sock~, 64 MiB, NICs later: va"]


def test_one_that_fails_after_all_is_told_of(parts: Parts) -> None:
    parts.room, parts.failing_starts = None, {2}
    with pytest.raises(NoDataplaneError, match="the new dataplane does not start: no memory"):
        parts.swap(Process(parts.log, "old"))


def test_one_without_hugepages_needs_none_for_two(parts: Parts) -> None:
    parts.room = None
    parts.swap(Process(parts.log, "old", huge=False))
    begin = "start at d.sock~, NICs later: va"
    assert parts.log == [begin, "hand over", "stop old", "take back 0"]


def test_beside_one_of_an_earlier_version_the_nics_are_tried(parts: Parts) -> None:
    old = Process(parts.log, "old")
    del old.info["iova_mode"], old.info["pci"]
    parts.swap(old)
    assert parts.log[0] == "start at d.sock~, huge"


def test_beside_one_without_nics_the_new_one_has_its_own_at_once(parts: Parts) -> None:
    """In the IOVA mode that suits them: the present one's may not."""
    old = Process(parts.log, "old")
    old.info["pci"] = []
    parts.swap(old)
    assert parts.log[0] == "start at d.sock~, huge"


def test_one_upgrade_at_a_time(parts: Parts) -> None:
    request = parts.upgrader.request()
    with pytest.raises(UpgradeError, match="under way already"):
        parts.upgrader.request()
    threading.Timer(0.01, parts.upgrader.answer, ({"ports": 5},)).start()
    assert request.wait() == {"ports": 5}
    assert parts.upgrader.pending() is None
    second = parts.upgrader.request()
    parts.upgrader.answer(UpgradeError("the agent is stopping"))
    with pytest.raises(UpgradeError, match="is stopping"):
        second.wait()


def test_in_one_line(parts: Parts) -> None:
    old: Any = Process(parts.log, "old")
    told = summary(old, old, 0.0416, 54, 55)
    assert told["text"] == (
        "0.1.0 (pid 7) -> 0.1.0 (pid 7), ports silent for 42 ms: 54 of 55 are there"
    )
