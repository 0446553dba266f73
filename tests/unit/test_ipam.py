"""Delegation to IPAM plugins: the real ones, and some that misbehave."""

import json
import os
from pathlib import Path

import pytest

from cni_virtio import ipam, ipam_exec
from tests.unit.ipam_caller import ANSWER, Caller, scripted

REAL = "/usr/lib/cni"
needs_host_local = pytest.mark.skipif(
    not Path(REAL, "host-local").exists(), reason="needs containernetworking-plugins"
)


@pytest.fixture
def host_local(tmp_path: Path) -> Caller:
    ranges = [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]
    conf = {"type": "host-local", "dataDir": str(tmp_path / "data"), "ranges": ranges}
    return Caller([REAL], conf | {"routes": [{"dst": "0.0.0.0/0"}]})


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


def test_the_first_of_two_places_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "p").touch(mode=0o755)
    assert ipam.find("p", [str(first), str(second)]) == first / "p"
