"""The static client, against a server that plays the agent's side of its socket."""

import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import __version__
from cni_virtio.chain import merged
from cni_virtio.results import DNS, Result

SHIM = Path(__file__).parents[2] / "build" / "bin" / "cni-virtio"
OWN_NETNS = "/proc/self/ns/net"
SUPPORTED = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
MIB = 1024 * 1024
REPLY_MAX_BYTES = 8 * MIB


def framed(status: int, body: bytes) -> bytes:
    return struct.pack("<II", status, len(body)) + body


@dataclass
class Agent:
    """Takes one request after the other; answers each with ``reply``, then hangs up."""

    path: Path
    reply: bytes = framed(0, b"{}")
    reads: bool = True
    header: tuple[bytes, int, int, int] | None = None
    env: dict[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    inodes: list[int] = field(default_factory=list)

    def start(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def stop(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                if self.reads:
                    self.take(connection)
                connection.sendall(self.reply)

    def take(self, connection: socket.socket) -> None:
        head, fds, _, _ = socket.recv_fds(connection, 16, 4)
        magic, env_length, stdin_length, flags = struct.unpack("<4sIII", head)
        self.header = (magic, env_length, stdin_length, flags)
        for fd in fds:
            self.inodes.append(os.fstat(fd).st_ino)
            os.close(fd)
        with connection.makefile("rb") as stream:
            entries = stream.read(env_length).decode().split("\0")[:-1]
            self.env = dict(entry.split("=", 1) for entry in entries)
            self.stdin = stream.read(stdin_length)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    server = Agent(tmp_path / "agent.sock")
    server.start()
    yield server
    server.stop()


def call(
    command: str | None, stdin: bytes = b"", netns: str | bytes | None = None, **env: str
) -> tuple[int, bytes, str]:
    """Runs the shim as a runtime does. Returns exit status, stdout, stderr."""
    given: dict[str, str | bytes] = {"PATH": "/bin", "HOME": "/", **env}
    if command is not None:
        given["CNI_COMMAND"] = command
    if netns is not None:
        given["CNI_NETNS"] = netns
    done = subprocess.run(
        [SHIM], input=stdin, env=given, capture_output=True, timeout=20, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


def config(path: Path | str, **more: object) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "agentSocket": str(path), **more}).encode()


def error(result: tuple[int, bytes, str]) -> dict[str, Any]:
    """The CNI error that the shim printed; it must have failed."""
    status, stdout, _ = result
    assert status == 1
    parsed: dict[str, Any] = json.loads(stdout)
    assert set(parsed) == {"cniVersion", "code", "msg", "details"}
    return parsed


def test_binary_is_static_and_small() -> None:
    assert SHIM.stat().st_size < MIB
    description = subprocess.check_output(["file", SHIM], text=True)
    assert "statically linked" in description
    assert "stripped" in description


def test_it_has_the_version_of_the_agent() -> None:
    done = subprocess.run([SHIM, "--version"], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == f"cni-virtio {__version__}\n"


def test_request_carries_environment_stdin_and_netns(agent: Agent) -> None:
    agent.reply = framed(0, b'{"cniVersion": "1.0.0"}')
    stdin = config(agent.path, name="pods")
    status, stdout, _ = call(
        "ADD",
        stdin,
        OWN_NETNS,
        CNI_CONTAINERID="c1",
        CNI_IFNAME="eth0",
        CNI_ARGS="K8S_POD_NAME=a;X=b=c",
        CNI_PATH="/opt/cni/bin",
        K8S_NODE="n",
        TRACEPARENT="00-1-2-01",
        TRACESTATE="v=1",
        SECRET="x",
        TRACEPARENTAL="x",
    )
    assert (status, stdout) == (0, b'{"cniVersion": "1.0.0"}')
    assert agent.env == {
        "CNI_COMMAND": "ADD",
        "CNI_NETNS": OWN_NETNS,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "K8S_POD_NAME=a;X=b=c",
        "CNI_PATH": "/opt/cni/bin",
        "K8S_NODE": "n",
        "TRACEPARENT": "00-1-2-01",
        "TRACESTATE": "v=1",
    }
    assert agent.stdin == stdin
    assert agent.inodes == [Path(OWN_NETNS).stat().st_ino]
    env_length = sum(len(key) + len(value) + 2 for key, value in agent.env.items())
    assert agent.header == (b"CNV1", env_length, len(stdin), 1)


@pytest.mark.parametrize("command", ["DEL", "GC", "STATUS", "CHEESE"])
def test_commands_that_need_no_netns_go_on_without(agent: Agent, command: str) -> None:
    assert call(command, config(agent.path))[0] == 0
    assert agent.header is not None
    assert agent.header[3] == 0
    assert agent.inodes == []


@pytest.mark.parametrize("netns", ["", "/absent/netns", "/etc/hostname"])
def test_del_goes_on_when_the_netns_is_gone(agent: Agent, netns: str) -> None:
    assert call("DEL", config(agent.path), netns)[0] == 0
    assert agent.inodes == []
    assert agent.env["CNI_NETNS"] == netns


def test_del_passes_a_netns_that_is_there(agent: Agent) -> None:
    assert call("DEL", config(agent.path), OWN_NETNS)[0] == 0
    assert agent.inodes == [Path(OWN_NETNS).stat().st_ino]


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
@pytest.mark.parametrize(
    ("netns", "code", "said"),
    [
        (None, 4, "CNI_NETNS is missing"),
        ("", 4, "CNI_NETNS is missing"),
        ("/absent/netns", 3, "'/absent/netns': No such file"),
        ("/etc/hostname", 3, "'/etc/hostname' is not a network namespace"),
        ("/proc", 3, "'/proc' is not a network namespace"),
        ("/proc/self/ns/mnt", 3, "'/proc/self/ns/mnt' is not a network namespace"),
        ('/a"b\\c\n\x01/é', 3, "CNI_NETNS '/a\"b\\c\n\x01/é'"),
        (b"/\xff\xc3(", 3, "'/\ufffd\ufffd('"),
        ("/" + "x" * 4000, 3, "Filename too long"),
    ],
)
def test_netns_that_cannot_be_opened_is_named(
    agent: Agent, command: str, netns: str | bytes | None, code: int, said: str
) -> None:
    found = error(call(command, config(agent.path), netns))
    assert (found["code"], found["cniVersion"]) == (code, "1.0.0")
    assert said in found["msg"]
    assert agent.header is None


def test_a_fifo_as_netns_does_not_block(agent: Agent, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    found = error(call("ADD", config(agent.path), str(tmp_path / "fifo")))
    assert found["code"] == 3


@pytest.mark.parametrize("command", ["ADD", "DEL", "GC", "STATUS"])
def test_absent_agent_is_try_again_later(tmp_path: Path, command: str) -> None:
    absent = tmp_path / "absent.sock"
    found = error(call(command, config(absent), OWN_NETNS))
    assert found["code"] == 11
    assert f"'{absent}': No such file or directory" in found["msg"]
    assert "cni-virtio-agent" in found["details"]


def test_socket_without_listener_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "dead.sock"))
    found = error(call("DEL", config(tmp_path / "dead.sock")))
    assert found["code"] == 11
    assert "dead.sock': Connection refused" in found["msg"]


def test_an_agent_that_does_not_accept_ends_by_a_deadline(tmp_path: Path) -> None:
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waiting:
        full.bind(str(path))
        full.listen(0)
        waiting.connect(str(path))
        found = error(call("DEL", config(path)))
    assert found["code"] == 11
    assert "does not accept connections" in found["msg"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"", "no reply"),
        (b"\0\0\0", "no reply"),
        (struct.pack("<II", 0, 5) + b"abc", "cut short"),
        (struct.pack("<II", 0, REPLY_MAX_BYTES + 1), "protocol"),
        (struct.pack("<II", 256, 0), "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
    ],
)
def test_broken_replies_name_the_socket(agent: Agent, reply: bytes, said: str) -> None:
    agent.reply = reply
    found = error(call("DEL", config(agent.path)))
    assert found["code"] == 11
    assert str(agent.path) in found["msg"]
    assert said in found["msg"]


@pytest.mark.parametrize(("status", "size"), [(0, 0), (1, 100), (255, 3), (0, REPLY_MAX_BYTES)])
def test_reply_and_status_are_passed_on(agent: Agent, status: int, size: int) -> None:
    agent.reply = framed(status, b"\xc3" * size)
    assert call("DEL", config(agent.path))[:2] == (status, b"\xc3" * size)


def test_a_reply_before_the_request_is_read_counts(agent: Agent) -> None:
    agent.reads = False
    agent.reply = framed(7, b"too busy")
    assert call("DEL", config(agent.path, fill="x" * 900_000))[:2] == (7, b"too busy")


def test_largest_stdin_passes_and_one_more_byte_does_not(agent: Agent) -> None:
    stdin = config(agent.path).ljust(MIB)
    assert call("DEL", stdin)[0] == 0
    assert agent.stdin == stdin
    found = error(call("DEL", stdin + b" "))
    assert found["code"] == 6
    assert "1 MiB" in found["msg"]


def test_a_result_of_the_largest_netconf_and_lease_can_be_passed_on() -> None:
    """Each escaped, which makes three bytes of one: else ADD would fail after it was done."""
    text = "é" * (MIB // 2)
    previous, lease = (Result(dns=DNS(search=(f"{letter}{text}",))) for letter in "ab")
    assert MIB < len(json.dumps(merged(previous, lease).to_json("1.1.0"))) < REPLY_MAX_BYTES


def test_environment_over_its_limit_is_refused(agent: Agent) -> None:
    assert call("DEL", config(agent.path), CNI_ARGS="x" * 65000)[0] == 0
    found = error(call("DEL", config(agent.path), CNI_ARGS="x" * 65536))
    assert found["code"] == 4
    assert "64 KiB" in found["msg"]


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b"", "1.1.0"),
        (b"no json", "1.1.0"),
        (b'{"cniVersion": "0.4.0"}', "0.4.0"),
        (b'  {"a": {"cniVersion": "9"}, "cniVersion" : "1.0.0"} ', "1.0.0"),
        (b'{"a": ["}", "\\"", {}], "cniVersion":"0.3.1", "b": 1e5}', "0.3.1"),
        (b'{"cniVersion": "1.0.0", "broken', "1.0.0"),
        (b'{"cniVersion": 3}', "1.1.0"),
        (b'{"cniVersi\\u006fn": "\\u0031.\\"\\\\\\n\\u00e9"}', '1."\\\né'),
        (b'{"x": "cniVersion", "\\ud83d\\ude00": "cniVersion", "cniVersion": "0.3.0"}', "0.3.0"),
    ],
)
def test_version_is_answered_without_an_agent(stdin: bytes, version: str) -> None:
    status, stdout, _ = call("VERSION", stdin)
    assert status == 0
    assert json.loads(stdout) == {"cniVersion": version, "supportedVersions": SUPPORTED}


def test_version_without_open_descriptors_fails_quietly() -> None:
    script = f"exec {SHIM} <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", script], env={"CNI_COMMAND": "VERSION"}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("command", [None, ""])
def test_without_a_command_it_says_what_it_is(command: str | None) -> None:
    result = call(command)
    assert error(result)["code"] == 4
    assert result[2] == "cni-virtio is a CNI plugin: container runtimes execute it\n"


@pytest.mark.parametrize("path", ["", "relative.sock", "/" + "x" * 107, "/\0"])
def test_unusable_socket_path_is_an_invalid_configuration(path: str) -> None:
    found = error(call("DEL", config(path)))
    assert found["code"] == 7
    assert "agentSocket" in found["msg"]


def test_socket_path_is_found_escaped_and_last(tmp_path: Path) -> None:
    server = Agent(tmp_path / "é \t.sock")
    server.start()
    try:
        first = json.dumps({"ipam": {"agentSocket": "/wrong"}, "agentSocket": "/wrong"})[:-1]
        last = json.dumps({"agentSocket": str(server.path)}).replace("/", "\\/")[1:]
        assert call("DEL", f"{first}, {last}".encode())[0] == 0
    finally:
        server.stop()


def test_default_socket_serves_configurations_that_name_none() -> None:
    if Path("/run/cni-virtio/agent.sock").exists():
        pytest.skip("an agent of this machine listens at the default socket")
    found = error(call("DEL", b'{"cniVersion": "0.4.0"}'))
    assert found["code"] == 11
    assert "/run/cni-virtio/agent.sock" in found["msg"]
