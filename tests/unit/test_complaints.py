"""What the dataplane's log says of frontends, and that it says it once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from dataplane.complaints import Complaints

if TYPE_CHECKING:
    import pytest

    from dataplane.binding import Engine


class Ports:
    """An engine of which only this is asked."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def ports_with_lost_memory(self) -> set[str]:
        return self.lost


def test_lost_memory_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    ports = Ports()
    complaints = Complaints(cast("Engine", ports))

    def told() -> list[str]:
        caplog.clear()
        complaints.due_s = 0.0
        complaints.act()
        return [record.getMessage() for record in caplog.records]

    caplog.set_level(logging.WARNING)
    assert told() == []
    ports.lost = {"a", "b"}
    assert [text.split(":")[0] for text in told()] == ["port a", "port b"]
    assert told() == []
    ports.lost = {"b"}
    assert told() == []
    ports.lost = {"a", "b"}
    assert [text.split(":")[0] for text in told()] == ["port a"]


def test_it_waits_for_its_time(caplog: pytest.LogCaptureFixture) -> None:
    ports = Ports()
    ports.lost = {"a"}
    Complaints(cast("Engine", ports)).act()
    assert caplog.records == []
