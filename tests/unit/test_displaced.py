"""When a dataplane ends by itself: its socket gone from its path, without ports and clients."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataplane import displaced as module
from dataplane import unix_socket
from dataplane.displaced import Displaced
from dataplane.place import Place
from dataplane.server import Server
from dataplane.stop import Stop
from tests.smoke.ports import wait_until


@pytest.mark.parametrize(
    ("at_its_path", "has_ports", "ends"),
    [
        ("its own", False, False),
        ("its own, from another", False, False),
        ("another's", False, True),
        ("another's", True, False),
        ("nothing", False, True),
        ("nothing", True, False),
    ],
)
def test_it_ends(tmp_path: Path, at_its_path: str, has_ports: bool, ends: bool) -> None:
    path, other, stop = tmp_path / "d.sock", tmp_path / "d.sock~", Stop()
    operations: Any = SimpleNamespace(has_ports=has_ports)
    with socket.socket(socket.AF_UNIX) as ours, socket.socket(socket.AF_UNIX) as theirs:
        ours.bind(str(path))
        theirs.bind(str(other))
        place = Place(str(path))
        displaced = Displaced(place, operations, stop, lambda: False)
        displaced.due_s = 0.0
        if at_its_path == "its own, from another":
            place.move(str(other))
        elif at_its_path == "another's":
            other.rename(path)
        elif at_its_path == "nothing":
            path.unlink()
        displaced.act()
    assert stop.requested == ends
    assert displaced.due_s > 0


def test_it_waits_until_the_agent_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That one ends it in order; it may have just given up its ports for the one beside it."""
    monkeypatch.setattr(module, "PERIOD_S", 0.02)
    path, stop = str(tmp_path / "d.sock"), Stop()
    listener = unix_socket.listen(path)
    operations: Any = SimpleNamespace(has_ports=False)
    displaced = Displaced(Place(path), operations, stop, lambda: server.has_connections)
    server = Server(listener, operations, [displaced], stop)
    serving = threading.Thread(target=server.run)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(path)
        serving.start()
        wait_until(lambda: server.has_connections, "the agent to be admitted")
        Path(path).unlink()
        serving.join(0.3)
        assert serving.is_alive()
    serving.join(10)
    assert stop.requested
    server.close()
