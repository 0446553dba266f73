"""Delegation to IPAM plugins: the real ones, and some that misbehave."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import ipam, ipam_exec, netconf
from cni_virtio.ipam import Delegation, delegate
from cni_virtio.netconf import NetConf
from cni_virtio.spec import CniError, Request, Result

REAL = "/usr/lib/cni"
needs_host_local = pytest.mark.skipif(
    not Path(REAL, "host-local").exists(), reason="needs containernetworking-plugins"
)
ANSWER = '{"ips": [{"address": "10.9.0.5/16", "gateway": "10.9.0.1"}]}'


class Caller:
    """Calls a plugin as the verbs do: netconf and request from one configuration."""

    def __init__(self, path: list[str], ipam: dict[str, Any], version: str = "1.1.0") -> None:
        self.path = path
        self.conf: dict[str, Any] = {"cniVersion": version, "name": "net", "type": "cni-virtio"}
        self.conf["ipam"] = ipam
        self.container_id = "c1"

    def __call__(self, command: str, deadline_s: float = 10.0) -> Result | None:
        conf, request = self.request()
        return delegate(command, conf, request, deadline_s)

    def request(self) -> tuple[NetConf, Request]:
        stdin = json.dumps(self.conf).encode()
        env = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": ":".join(self.path),
        }
        return netconf.parse(stdin), Request.parse(env, stdin)

    def fails(self, command: str, deadline_s: float = 10.0) -> CniError:
        with pytest.raises(CniError) as caught:
            self(command, deadline_s)
        assert "\n" not in caught.value.msg
        return caught.value


@pytest.fixture
def host_local(tmp_path: Path) -> Caller:
    ranges = [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]
    conf = {"type": "host-local", "dataDir": str(tmp_path / "data"), "ranges": ranges}
    return Caller([REAL], conf | {"routes": [{"dst": "0.0.0.0/0"}]})


def scripted(tmp_path: Path, body: str, version: str = "1.1.0") -> Caller:
    plugin = tmp_path / "bin" / "scripted"
    plugin.parent.mkdir(exist_ok=True)
    plugin.write_text(f"#!/bin/sh\ncd {tmp_path}\n{body}\n")
    plugin.chmod(0o755)
    return Caller(["/nonexistent", str(plugin.parent)], {"type": "scripted"}, version)


def reserved(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "data" / "net").iterdir() if p.name[0] in "1f")


@needs_host_local
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_host_local(version: str, host_local: Caller, tmp_path: Path) -> None:
    """Debian 12's host-local knows 1.0.0 at most: with 1.1.0 it is spoken to in 1.0.0."""
    host_local.conf["cniVersion"] = version
    result = host_local("ADD")
    assert result is not None
    assert [str(ip.address) for ip in result.ips] == ["10.88.0.2/24", "fd00:88::2/64"]
    assert str(result.ips[0].gateway) == "10.88.0.1"
    assert str(result.routes[0].dst) == "0.0.0.0/0"
    assert reserved(tmp_path) == ["10.88.0.2", "fd00:88::2"]
    assert host_local("CHECK") is None
    assert host_local("GC") is None
    assert host_local("STATUS") is None
    assert host_local("DEL") is None
    assert host_local("DEL") is None
    assert reserved(tmp_path) == []


@needs_host_local
def test_an_exhausted_range_is_the_plugins_own_error(host_local: Caller) -> None:
    host_local.conf["ipam"]["ranges"] = [[{"subnet": "10.88.0.0/30"}]]
    host_local("ADD")
    host_local.container_id = "c2"
    error = host_local.fails("ADD")
    assert error.msg.startswith("IPAM plugin host-local: failed to allocate")
    assert "no IP addresses available" in error.msg


@needs_host_local
def test_check_of_what_was_never_added(host_local: Caller, tmp_path: Path) -> None:
    (tmp_path / "data" / "net").mkdir(parents=True)
    assert host_local.fails("CHECK").msg.startswith("IPAM plugin host-local: ")


@needs_host_local
def test_a_config_that_the_plugin_refuses(host_local: Caller) -> None:
    host_local.conf["ipam"]["ranges"] = [[{"subnet": "10.88.0.0/33"}]]
    error = host_local.fails("ADD")
    assert error.msg.startswith("IPAM plugin host-local: ")
    assert "10.88.0.0/33" in error.msg


@pytest.mark.skipif(not Path(REAL, "static").exists(), reason="needs containernetworking-plugins")
def test_static_checks_a_previous_result_of_a_newer_version() -> None:
    call = Caller([REAL], {"type": "static", "addresses": [{"address": "10.1.0.5/24"}]})
    result = call("ADD")
    assert result is not None
    call.conf["prevResult"] = result.to_json("1.1.0")
    assert call("CHECK") is None


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


def test_without_ipam_nothing_is_run() -> None:
    call = Caller([], {})
    assert call("ADD") is None
    del call.conf["ipam"]
    assert call("ADD") is None


def test_the_plugin_gets_the_whole_config_and_the_same_environment(tmp_path: Path) -> None:
    call = scripted(tmp_path, f"cat > stdin; env > env; pwd > pwd; echo '{ANSWER}'")
    call.conf["args"] = {"cni": {"labels": []}}
    result = call("ADD")
    assert result is not None
    assert str(result.ips[0].address) == "10.9.0.5/16"
    assert (tmp_path / "stdin").read_bytes() == json.dumps(call.conf).encode()
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert env["PATH"] == os.environ["PATH"]
    assert env["CNI_IFNAME"] == "eth0"
    assert env["CNI_COMMAND"] == "ADD"
    assert env["CNI_PATH"] == ":".join(call.path)
    assert set(env) - {"PWD", "OLDPWD", "_", "SHLVL"} == {
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_IFNAME",
        "CNI_NETNS",
        "CNI_PATH",
        "PATH",
    }
    call("DEL")
    assert "CNI_COMMAND=DEL" in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("version", "commands"),
    [
        ("0.3.1", ["DEL"]),
        ("0.4.0", ["CHECK", "DEL"]),
        ("1.0.0", ["CHECK", "DEL"]),
        ("1.1.0", ["CHECK", "GC", "STATUS", "DEL"]),
    ],
)
def test_commands_that_a_version_lacks_are_not_forwarded(
    version: str, commands: list[str], tmp_path: Path
) -> None:
    call = scripted(tmp_path, 'echo "$CNI_COMMAND" >> commands', version)
    for command in ("CHECK", "GC", "STATUS", "DEL"):
        assert call(command) is None
    assert (tmp_path / "commands").read_text().split() == commands


OLD_PLUGIN = """
input=$(cat)
echo "$CNI_COMMAND" >> commands
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion": "1.0.0", "supportedVersions": SPOKEN}'
    exit
fi
case "$input" in
    *'"cniVersion": "0.4.0"'*) echo '{"ips": [{"version": "4", "address": "10.9.0.5/16"}]}' ;;
    *) echo '{"code": 1, "msg": "incompatible CNI versions"}'; exit 1 ;;
esac
"""


def test_an_old_plugin_is_asked_once_for_its_versions(tmp_path: Path) -> None:
    call = scripted(tmp_path, OLD_PLUGIN.replace("SPOKEN", '["0.1.0", "0.4.0", "0.3.1"]'))
    assert call("ADD") is not None
    assert call("ADD") is not None
    assert call("GC") is None
    assert (tmp_path / "commands").read_text().split() == ["ADD", "VERSION", "ADD", "ADD"]


MINDS_THE_CONTAINER = """
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion": "1.0.0", "supportedVersions": SPOKEN}'
    exit
fi
echo '{"code": 3, "msg": "missing containerID"}'; exit 1
"""


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_an_old_plugin_that_complains_of_something_else_is_asked_too(
    command: str, tmp_path: Path
) -> None:
    call = scripted(tmp_path, MINDS_THE_CONTAINER.replace("SPOKEN", '["0.4.0", "1.0.0"]'))
    assert call(command) is None


@pytest.mark.parametrize("command", ["GC", "STATUS", "ADD"])
def test_a_complaint_of_a_plugin_that_knows_the_command_stays(command: str, tmp_path: Path) -> None:
    call = scripted(tmp_path, MINDS_THE_CONTAINER.replace("SPOKEN", '["1.0.0", "1.1.0"]'))
    assert call.fails(command).msg == "IPAM plugin scripted: missing containerID"


@pytest.mark.parametrize("spoken", ['["0.1.0"]', '["1.1.0"]', "[]", "null", '"1.0.0"', "[{}]"])
def test_a_plugin_with_no_version_in_common(spoken: str, tmp_path: Path) -> None:
    call = scripted(tmp_path, OLD_PLUGIN.replace("SPOKEN", spoken))
    error = call.fails("ADD")
    assert (error.code, error.msg) == (1, "IPAM plugin scripted: incompatible CNI versions")
    assert (tmp_path / "commands").read_text().split() == ["ADD", "VERSION"]


@pytest.mark.parametrize("name", ["nonesuch", "data", "plain"])
def test_an_absent_plugin_is_named_with_the_places_searched(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "plain").write_text("not executable")
    error = Caller(["/nonexistent", str(tmp_path)], {"type": name}).fails("ADD")
    assert error.code == 7
    assert error.msg.startswith(f"ipam.type: '{name}' is no executable in CNI_PATH (/nonexistent:")


def test_without_cni_path_the_variable_is_named() -> None:
    error = Caller([], {"type": "host-local"}).fails("ADD")
    assert error.code == 4
    assert error.msg.startswith("CNI_PATH: ")


def test_a_plugin_that_is_no_program(tmp_path: Path) -> None:
    call = scripted(tmp_path, "")
    (tmp_path / "bin" / "scripted").write_bytes(b"\x7fELF garbage")
    error = call.fails("ADD")
    assert error.code == 5
    assert "cannot be executed: Exec format error" in error.msg


@pytest.mark.parametrize(
    ("body", "code", "msg"),
    [
        ('echo \'{"code": 11, "msg": "m"}\'; exit 1', 11, "IPAM plugin scripted: m"),
        ('echo \'{"code": 250, "msg": "m"}\'; exit 9', 250, "IPAM plugin scripted: m"),
        ("echo broken; exit 3", 102, "ADD ended with exit status 3 and without a CNI error"),
        ("exit 1", 102, "ADD ended with exit status 1 and without a CNI error"),
        ("kill -9 $$", 102, "ADD ended with signal 9 and without a CNI error"),
        ('echo \'{"code": 0, "msg": "m"}\'; exit 1', 102, "exit status 1"),
        ('echo \'{"code": "x", "msg": 3}\'; exit 1', 102, "exit status 1"),
        ("echo '[]'; exit 1", 102, "exit status 1"),
        ("true", 6, "ADD succeeded, but its output is no JSON object"),
        ("echo garbage", 6, "ADD succeeded, but its output is no JSON object"),
        ("printf '\\377\\376'", 6, "ADD succeeded, but its output is no JSON object"),
        ("echo '[1]'", 6, "ADD succeeded, but its output is no JSON object"),
        ('echo \'{"ips": [{"address": "x"}]}\'', 6, "result.ips[0].address: 'x' is not in CIDR"),
        ('echo \'{"cniVersion": "9.0.0", "ips": []}\'', 6, "result.cniVersion: '9.0.0'"),
        (
            'echo \'{"ips": [{"address": "10.0.0.1/8"}], "routes": [{"dst": "::/0", "mtu": -1}]}\'',
            6,
            "result.routes[0].mtu: -1 is not from 0 to",
        ),
        ('echo \'{"cniVersion": "1.0.0"}\'', 102, "ADD succeeded, but gave no address"),
    ],
)
def test_each_way_to_fail(body: str, code: int, msg: str, tmp_path: Path) -> None:
    error = scripted(tmp_path, body).fails("ADD")
    assert error.code == code
    assert msg in error.msg
    assert error.msg.startswith("IPAM plugin scripted: ")


def test_an_error_is_one_line_and_no_novel(tmp_path: Path) -> None:
    answer, call = tmp_path / "answer", scripted(tmp_path, "cat answer; exit 1")
    answer.write_text(json.dumps({"code": 7, "msg": "a\n b", "details": "c\nd"}))
    error = call.fails("ADD")
    assert (error.msg, error.details) == ("IPAM plugin scripted: a b", "c\nd")
    answer.write_text(json.dumps({"code": 7, "msg": "x" * 400_000, "details": "y" * 400_000}))
    error = call.fails("ADD")
    assert error.code == 7
    assert len(error.msg) < 2100
    assert len(error.details) == 64 << 10


def test_details_and_stderr_are_kept(tmp_path: Path) -> None:
    body = 'echo log >&2; echo \'{"code": 7, "msg": "m", "details": "more"}\'; exit 1'
    assert scripted(tmp_path, body).fails("ADD").details == "more\nlog"
    body = "seq 100000 >&2; exit 1"
    details = scripted(tmp_path, body).fails("ADD").details
    assert details.endswith("99999\n100000")
    assert 4000 < len(details) <= ipam_exec.KEPT_STDERR_BYTES


def test_a_result_for_del_is_ignored(tmp_path: Path) -> None:
    assert scripted(tmp_path, "echo garbage")("DEL") is None


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


def test_the_first_of_two_places_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "p").touch(mode=0o755)
    assert ipam.find("p", [str(first), str(second)]) == first / "p"


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
