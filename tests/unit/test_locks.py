"""Who waits for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from cni_virtio.locks import KeyedLocks, LockTimeoutError


def in_thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_readers_share_and_a_writer_does_not() -> None:
    locks = KeyedLocks()
    with locks.shared("a", 0.1), locks.shared("a", 0.1):
        with pytest.raises(LockTimeoutError, match=r"after 0\.05 s"), locks.exclusive("a", 0.05):
            pytest.fail("got in")
        with locks.exclusive("b", 0.1):
            pass
    with (
        locks.exclusive("a", 0.1),
        pytest.raises(LockTimeoutError),
        locks.shared("a", 0.05),
    ):
        pytest.fail("got in")


def test_a_waiting_writer_is_not_starved_by_new_readers() -> None:
    locks = KeyedLocks()
    order: list[str] = []

    def write() -> None:
        with locks.exclusive("a", 5):
            order.append("writer")

    def read() -> None:
        with locks.shared("a", 5):
            order.append("reader")

    with locks.shared("a", 1):
        writer = in_thread(write)
        while not locks._waiting_writers:
            time.sleep(0.001)
        reader = in_thread(read)
        time.sleep(0.02)
    writer.join()
    reader.join()
    assert order == ["writer", "reader"]


def test_nothing_is_kept_for_keys_that_nobody_uses() -> None:
    locks = KeyedLocks()
    for number in range(100):
        with locks.shared(number, 1), locks.exclusive(("c", number), 1):
            pass
    with locks.shared("a", 1), pytest.raises(LockTimeoutError), locks.exclusive("a", 0.01):
        pass
    assert (locks._readers, locks._writers, locks._waiting_writers) == ({}, set(), {})


def test_a_lock_is_free_again_after_an_error() -> None:
    locks = KeyedLocks()
    with pytest.raises(ZeroDivisionError), locks.exclusive("a", 1):
        raise ZeroDivisionError
    with locks.exclusive("a", 0.01):
        pass
