"""When a dataplane ends by itself: with its socket gone from its path, and without ports."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataplane.displaced import Displaced
from dataplane.place import Place
from dataplane.stop import Stop


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
        displaced = Displaced(place, operations, stop)
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
