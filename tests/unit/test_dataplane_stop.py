"""How the agent ends a dataplane: with the signals that it takes, and none to who has its pid."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from cni_virtio import dataplane_process
from cni_virtio.dataplane_process import DataplaneProcess


@pytest.mark.parametrize(
    ("ends_at", "signals"),
    [
        ("before", []),
        (signal.SIGTERM, [signal.SIGTERM]),
        (signal.SIGKILL, [signal.SIGTERM, signal.SIGKILL]),
    ],
)
def test_it_gets_signals_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, ends_at: signal.Signals | str, signals: list[int]
) -> None:
    watch, its_end = socket.socketpair()
    given: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert pid == os.getpid()  # which has made the sockets
        given.append(number)
        if number == ends_at:
            its_end.close()

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(dataplane_process, "_STOP_PATIENCE_S", 0.01)
    if ends_at == "before":
        its_end.close()
    DataplaneProcess(watch, {}, None).stop()
    assert given == signals
    assert watch.fileno() == -1
