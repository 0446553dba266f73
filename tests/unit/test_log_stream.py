"""DPDK's log: nobody waits for whoever reads it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.dataplane_process import needs_engine
from tests.unit.engine_program import build

if TYPE_CHECKING:
    from pathlib import Path

LINES = 1000
"""Half a MiB: more than a pipe takes, and fewer than may be written at once."""
LINES_AT_ONCE = 2000

pytestmark = [needs_engine, pytest.mark.timeout(20)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tables"), "logging", "log_stream.c")


def logged(program: Path, lines: int) -> tuple[list[str], list[str]]:
    """What is in the log of so many lines that nobody read meanwhile; and then of one more."""
    with subprocess.Popen(
        [program, str(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        try:
            assert process.stdout.readline() == b"ready\n"
            fd = process.stderr.fileno()
            os.set_blocking(fd, False)
            in_pipe = b"".join(iter(lambda: _read(fd), b""))
            os.set_blocking(fd, True)
            process.stdin.write(b"again\n")
            process.stdin.close()
            return in_pipe.decode().splitlines(), process.stderr.read().decode().splitlines()
        finally:
            process.kill()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def test_a_reader_that_stops_stops_nobody(program: Path) -> None:
    kept, later = logged(program, LINES)
    assert 0 < len(kept) < LINES
    assert [line.split()[1] for line in kept] == [str(i) for i in range(len(kept))]
    assert later == [f"({LINES - len(kept)} lines left out)", "again"]


def test_all_of_few_lines(program: Path) -> None:
    kept, later = logged(program, 10)
    assert len(kept) == 10
    assert later == ["again"]


def test_too_many_at_once(program: Path) -> None:
    """Whether they are read or not."""
    done = subprocess.run(
        [program, str(2 * LINES_AT_ONCE)], input="", capture_output=True, text=True, check=True
    )
    assert len(done.stderr.splitlines()) <= LINES_AT_ONCE
