"""IPAM plugins as processes: what they say in time or late, hang, flood and leave."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from cni_virtio.ipam import Delegation
from cni_virtio.spec import CniError
from tests.unit.ipam_caller import ANSWER, scripted


def test_a_lease_is_there_before_the_plugin_has_ended(tmp_path: Path) -> None:
    began_s = time.monotonic()
    leasing = Delegation("ADD", *scripted(tmp_path, f"echo '{ANSWER}'; sleep 0.5").request())
    lease = leasing.lease()
    assert time.monotonic() - began_s < 0.4
    assert lease is not None
    assert str(lease.ips[0].address) == "10.9.0.5/16"
    leasing.settle()
    assert time.monotonic() - began_s >= 0.5
    leasing.settle()
    leasing.abandon()


def test_a_plugin_that_fails_after_its_answer_has_failed(tmp_path: Path) -> None:
    body = f"echo '{ANSWER}'; sleep 0.3; exit 3"
    leasing = Delegation("ADD", *scripted(tmp_path, body).request())
    assert leasing.lease() is not None
    with pytest.raises(CniError, match="ended with exit status 3 and without a CNI error"):
        leasing.settle()


def test_an_answer_in_pieces_is_waited_for(tmp_path: Path) -> None:
    half = len(ANSWER) // 2
    body = f"printf '%s' '{ANSWER[:half]}'; sleep 0.1; echo '{ANSWER[half:]}'"
    leasing = Delegation("ADD", *scripted(tmp_path, body).request())
    assert leasing.lease() is not None
    leasing.settle()


def test_one_that_is_abandoned_has_ended(tmp_path: Path) -> None:
    leasing = Delegation("ADD", *scripted(tmp_path, "sleep 0.1; echo > ended; exit 1").request())
    leasing.abandon()
    assert (tmp_path / "ended").exists()


def test_a_hang_ends_by_the_deadline_with_the_whole_group(tmp_path: Path) -> None:
    call = scripted(tmp_path, "echo waiting >&2; sleep 1000 & echo $! > child; sleep 1000")
    start_s = time.monotonic()
    error = call.fails("ADD", 0.3)
    assert time.monotonic() - start_s < 2
    assert error.code == 11
    assert error.msg.endswith("/bin/scripted: still running after 0.3 s, killed")
    assert error.details == "waiting"
    assert_gone(int((tmp_path / "child").read_text()))


def test_a_plugin_that_ignores_sigterm_is_killed_too(tmp_path: Path) -> None:
    call = scripted(tmp_path, "trap '' TERM INT HUP; while :; do sleep 0.1; done")
    assert call.fails("ADD", 0.3).code == 11


def test_endless_output_ends(tmp_path: Path) -> None:
    error = scripted(tmp_path, "cat /dev/zero").fails("ADD")
    assert error.code == 6
    assert "wrote more than 1048576 bytes to stdout" in error.msg


def test_endless_stderr_ends_by_the_deadline(tmp_path: Path) -> None:
    assert scripted(tmp_path, "cat /dev/zero >&2").fails("ADD", 0.3).code == 11


def test_a_child_that_keeps_the_pipes_does_not_delay_the_result(tmp_path: Path) -> None:
    call = scripted(tmp_path, f"sleep 1000 & echo $! > child; echo '{ANSWER}'")
    start_s = time.monotonic()
    assert call("ADD") is not None
    assert time.monotonic() - start_s < 2
    os.kill(int((tmp_path / "child").read_text()), 9)


def test_a_large_config_to_a_plugin_that_never_reads(tmp_path: Path) -> None:
    call = scripted(tmp_path, f"exec 0<&-; echo '{ANSWER}'")
    call.conf["args"] = {"padding": "x" * 900_000}
    assert call("ADD") is not None
    call = scripted(tmp_path, f"sleep 0.1; wc -c > size; echo '{ANSWER}'")
    call.conf["args"] = {"padding": "x" * 900_000}
    assert call("ADD") is not None
    assert int((tmp_path / "size").read_text()) == len(json.dumps(call.conf))


def test_no_file_descriptor_and_no_process_is_left(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    bodies = [f"echo '{ANSWER}'", "exit 1", "sleep 100", "cat /dev/zero", "exec 0<&- 1<&- 2<&-"]
    for body in bodies:
        call = scripted(tmp_path, body)
        try:
            call("ADD", 0.2)
        except CniError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_one_that_cannot_be_watched_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "pidfd_open", refuse)
    error = scripted(tmp_path, "sleep 1000").fails("ADD")
    assert error.code == 5
    assert error.msg.endswith("/bin/scripted: cannot be waited for, killed: Too many open files")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def assert_gone(pid: int) -> None:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # nobody reaps orphans in a bare container
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")
