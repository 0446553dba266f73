"""cni-virtioctl against an agent played by a thread, and the parts of it that need none."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cni_virtio.ctl.agent_client import AgentError, AgentUnavailableError, query
from cni_virtio.ctl.cli import cli
from cni_virtio.ctl.tables import short

Answer = Callable[[dict[str, Any]], bytes]

PORT: dict[str, Any] = {
    "spec": {
        "name": "pod:abc/eth0",
        "kind": "tap",
        "network": "pods",
        "mac": "02:00:00:00:00:0a",
        "ips": ["10.0.0.2", "fd00::2"],
        "queues": 2,
    },
    "state": {"ready": True, "link_up": True, "offloads": ["tso4"]},
    "counters": {
        "rx_packets": 1234567,
        "tx_packets": 5,
        "rx_bytes": 99,
        "drops": {"spoof_mac": 3, "spoof_arp": 0},
    },
    "attachment": {"container_id": "abc", "ifname": "eth0", "pod": "web", "namespace": "shop"},
}
REPLIES: dict[str, dict[str, Any]] = {
    "status": {
        "version": "0.1.0",
        "pid": 7,
        "uptime_s": 3700.0,
        "config_file": "/etc/cni-virtio/agent.yaml",
        "backend": "tap",
        "attachments": 1,
        "networks": 1,
        "messages": ["no hugepages"],
        "dataplane": {
            "running": True,
            "pid": 8,
            "dpdk": "DPDK 22.11.11",
            "cores": [1],
            "idle": "adaptive",
            "restarts": 0,
            "memory": {"huge": False, "pools": {"std": {"size": 100, "in_use": 2}}},
        },
    },
    "ports": {"ports": [PORT]},
    "networks": {
        "networks": [
            {
                "spec": {"name": "pods", "mtu": 1500, "uplink": "uplink:wire0", "vlan": 7},
                "ports": ["pod:abc/eth0"],
                "fdb_entries": 4,
                "declared": True,
            }
        ]
    },
}


def framed(status: int, body: bytes) -> bytes:
    return struct.pack("<II", status, len(body)) + body


def usual(request: dict[str, Any]) -> bytes:
    return framed(0, json.dumps(REPLIES[request["op"]]).encode())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[[Answer], str]]:
    """Serve one connection after the other with the answers of a function."""
    place = str(tmp_path / "agent.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(place)
    listener.listen()

    def start(answer: Answer) -> str:
        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    magic, env, size, _ = struct.unpack("<4sIII", sock.recv(16))
                    assert (magic, env) == (b"CNV2", 0)
                    sock.sendall(answer(json.loads(sock.recv(size))))

        threading.Thread(target=serve, daemon=True).start()
        return place

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def run(place: str, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--socket", place, *words])


def test_ports_as_plain_columns(agent: Callable[[Answer], str]) -> None:
    result = run(agent(usual), "ports")
    assert result.exit_code == 0
    head, row = result.output.splitlines()
    assert head.split()[:3] == ["PORT", "NETWORK", "KIND"]
    assert row.split() == [
        "shop/web", "eth0", "pods", "tap", "02:00:00:00:00:0a", "10.0.0.2,fd00::2",
        "2", "up", "1234567", "5", "3",
    ]  # fmt: skip


def test_ports_that_are_missing_are_told_with_the_reason(agent: Callable[[Answer], str]) -> None:
    gone = {"spec": PORT["spec"] | {"name": "pod:b/eth0"}, "failure": "eth0 is gone"}
    reply = {"ports": [PORT], "missing": [gone]}
    output = run(agent(lambda _: framed(0, json.dumps(reply).encode())), "ports").output
    _, there, missing, reason = output.splitlines()
    assert "up" in there.split()
    assert missing.split()[0] == "pod:b/eth0"
    assert "missing" in missing.split()
    assert reason == "missing: pod:b/eth0: eth0 is gone"


def test_ports_verbose_names_drops(agent: Callable[[Answer], str]) -> None:
    output = run(agent(usual), "ports", "-v").output
    assert "spoof_mac 3" in output
    assert "spoof_arp" not in output


def test_ports_verbose_says_that_a_frontend_took_away_memory(
    agent: Callable[[Answer], str],
) -> None:
    port = PORT | {"state": PORT["state"] | {"ready": False, "memory_lost": True}}
    place = agent(lambda _: framed(0, json.dumps({"ports": [port]}).encode()))
    assert "took away memory that it had shared: restart the" in run(place, "ports", "-v").output


LIMITED = PORT | {
    "spec": PORT["spec"] | {"limits": {"ingress_bits_s": 2_500_000, "ingress_burst_bits": 262_144}},
    "counters": PORT["counters"]
    | {"ingress_held_packets": 7, "egress_pauses": 3, "drops": {"ingress_limit": 2}},
}


def test_ports_verbose_shows_limits_and_what_they_did(agent: Callable[[Answer], str]) -> None:
    place = agent(lambda _: framed(0, json.dumps({"ports": [LIMITED]}).encode()))
    output = run(place, "ports", "-v").output
    assert "ingress   2.5 Mbit/s, burst 262.144 kbit; 7 packets held, 2 dropped" in output
    assert "egress    " not in output


class Limiting:
    """An agent that takes note of what it is asked for, and may be held up."""

    def __init__(self, held_up: str = "") -> None:
        self.asked: list[dict[str, Any]] = []
        self._held_up = held_up

    def answer(self, request: dict[str, Any]) -> bytes:
        if request["op"] == "ports":
            return framed(0, json.dumps({"ports": [LIMITED]}).encode())
        self.asked.append(request["args"])
        found = {"port": "pod:abc/eth0", "bandwidth": {}, "held_up": self._held_up}
        return framed(0, json.dumps(found).encode())


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ((), None),
        (("--ingress", "100M"), {"ingressRate": 100_000_000}),
        (("--egress", "2.5Gbit/s", "--egress-burst", "64k"),
         {"egressRate": 2_500_000_000, "egressBurst": 64_000}),
        (("--ingress", "0"), {"ingressRate": 0}),
        (("--off",), {"ingressRate": 0, "egressRate": 0}),
    ],
)  # fmt: skip
def test_bandwidth_asks_the_agent(
    agent: Callable[[Answer], str], words: tuple[str, ...], change: dict[str, int] | None
) -> None:
    limiting = Limiting()
    result = run(agent(limiting.answer), "bandwidth", "web", *words)
    assert result.exit_code == 0
    assert limiting.asked == [{"port": "web"} | ({"bandwidth": change} if change else {})]
    assert "no limit; 3 pauses" in result.output


def test_bandwidth_that_is_held_up(agent: Callable[[Answer], str]) -> None:
    result = run(agent(Limiting("it is down").answer), "bandwidth", "web", "--off")
    assert result.exit_code == 0
    assert "in force as soon as this is over: it is down" in result.output


@pytest.mark.parametrize(
    "words", [("--ingress", "1Mi"), ("--ingress", "-1"), ("--off", "--egress", "1M")]
)
def test_bandwidth_refuses(agent: Callable[[Answer], str], words: tuple[str, ...]) -> None:
    assert run(agent(Limiting().answer), "bandwidth", "web", *words).exit_code == 2


@pytest.mark.parametrize(("name", "count"), [("web", 1), ("abc/eth0", 1), ("nobody", 0)])
def test_ports_by_name(agent: Callable[[Answer], str], name: str, count: int) -> None:
    found = json.loads(run(agent(usual), "ports", "--json", name).output)
    assert len(found["ports"]) == count


@pytest.mark.parametrize("command", ["status", "ports", "networks"])
def test_json_is_what_the_agent_said(agent: Callable[[Answer], str], command: str) -> None:
    assert json.loads(run(agent(usual), command, "--json").output) == REPLIES[command]


def test_networks(agent: Callable[[Answer], str]) -> None:
    row = run(agent(usual), "networks").output.splitlines()[1]
    assert row.split() == ["pods", "wire0", "7", "1500", "1", "4", "yes"]


def test_status_for_people(agent: Callable[[Answer], str]) -> None:
    output = run(agent(usual), "status").output
    for part in ("up 1 h 1 min", "ordinary pages", "std 2/100", "no hugepages"):
        assert part in output


def test_status_of_a_dataplane_that_is_down(agent: Callable[[Answer], str]) -> None:
    down = REPLIES["status"] | {"dataplane": {"running": False, "last_error": "no memory"}}
    place = agent(lambda _: framed(0, json.dumps(down).encode()))
    assert "not running: no memory" in run(place, "status").output


def test_check_says_nothing_and_ends_with_0_while_all_serve(
    agent: Callable[[Answer], str],
) -> None:
    result = run(agent(usual), "status", "--check")
    assert (result.exit_code, result.output) == (0, "")


def test_check_fails_while_the_dataplane_is_down(agent: Callable[[Answer], str]) -> None:
    down = REPLIES["status"] | {"dataplane": {"running": False, "last_error": "no hugepages"}}
    place = agent(lambda _: framed(0, json.dumps(down).encode()))
    result = run(place, "status", "--check")
    assert result.exit_code == 1
    assert result.output == "Error: the dataplane is not running: no hugepages\n"


def test_absent_agent_is_one_line_and_status_1(tmp_path: Path) -> None:
    result = run(str(tmp_path / "none.sock"), "status")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "no agent at" in result.output
    assert "--socket" in result.output


def test_socket_of_a_dead_agent(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place))
    with pytest.raises(AgentUnavailableError, match="one that died"):
        query(place, "status")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (framed(1, b'{"error": {"message": "unknown op"}}'), "unknown op"),
        (framed(0, b"not json"), "is not JSON"),
        (framed(0, b"[]"), "is not an object"),
        (framed(0, b"{}")[:-1], "broke off"),
        (b"", "broke off"),
        (struct.pack("<II", 0, 0xFFFFFFFF), "cannot be right"),
    ],
)
def test_odd_answers(agent: Callable[[Answer], str], reply: bytes, reason: str) -> None:
    with pytest.raises(AgentError, match=reason):
        query(agent(lambda _: reply), "status")


def test_counts_are_exact_in_a_pipe() -> None:
    assert short(1234567) == "1234567"


def test_help_lists_the_families() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    assert all(name in output for name in ("status", "ports", "networks", "doctor", "lab"))
