"""Limits hold, in both directions, for both kinds of interface, and outlive what enforces them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from cni_virtio.ctl.cli import cli
from dataplane.client import DataplaneClient
from tests.smoke.agent import Node, containers, node
from tests.smoke.limited import assert_held
from tests.smoke.netns import Netns
from tests.smoke.ports import Application, wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import iperf3, wire_bits

RATE = 100_000_000
OTHER_PORT = "5209"
BOTH = {"bandwidth": {"ingressRate": RATE, "egressRate": RATE}}


@pytest.fixture(scope="module")
def here() -> Iterator[Node]:
    with node() as one:
        yield one


@pytest.fixture
def three(here: Node) -> Iterator[list[Netns]]:
    """Containers a, which is limited, b and c."""
    with containers(3) as spaces, ExitStack() as stack:
        for name, space in zip("abc", spaces, strict=True):
            here.add(name, space, runtimeConfig=BOTH if name == "a" else None)
            stack.callback(here.delete, name, space)
        yield spaces


def address(space: Netns) -> str:
    return space.run("ip", "-4", "-o", "addr", "show", "eth0").split()[3].split("/")[0]


def wire_rate(source: Netns, sink: Netns, *options: str, seconds: int = 2) -> float:
    """Send by TCP and give the bits per second that arrived, headers included."""
    return wire_bits(iperf3(source, sink, address(sink), "--time", str(seconds), *options))


def control(here: Node, *words: str) -> str:
    """Run a command of cni-virtioctl, which must succeed."""
    done = CliRunner().invoke(cli, ["--socket", str(here.socket), *words])
    assert done.exit_code == 0, done.output
    return done.output


def limits(here: Node, port: str = "pod:a/eth0") -> dict[str, int]:
    """Give the limits that the dataplane has for a port."""
    found: dict[str, int] = here.port(port)["spec"].get("limits", {})
    return found


@contextmanager
def sending(source: Netns, sink: Netns) -> Iterator[None]:
    """Send by TCP all the time."""
    with sink.running("iperf3", "--server", "--port", OTHER_PORT):
        wait_until(lambda: f":{OTHER_PORT}" in sink.run("ss", "-Hltn"), "iperf3 listens")
        words = ("iperf3", "--port", OTHER_PORT, "--time", "60", "--client", address(sink))
        with source.running(*words):
            yield


def counted_rate(here: Node, port: str, key: str, seconds: float = 1) -> float:
    """Give the bits per second that a port has counted; a large segment's header counts once."""
    before_s, before = time.monotonic(), here.port(port)["counters"][key]
    time.sleep(seconds)
    after, after_s = here.port(port)["counters"][key], time.monotonic()
    return float(8 * (after - before) / (after_s - before_s))


def test_tcp_into_a_container(here: Node, three: list[Netns]) -> None:
    a, b, _ = three
    assert_held(lambda: wire_rate(b, a), RATE)
    assert here.port("pod:a/eth0")["counters"]["ingress_held_packets"] > 0


def test_tcp_out_of_a_container(here: Node, three: list[Netns]) -> None:
    a, b, _ = three
    assert_held(lambda: wire_rate(a, b), RATE)
    counters = here.port("pod:a/eth0")["counters"]
    assert counters["egress_pauses"] > 0
    assert counters["drops"] == {}


def test_datagrams_over_the_rate_are_dropped_and_counted(here: Node, three: list[Netns]) -> None:
    a, b, _ = three
    options = ("--udp", "--bitrate", "300M", "--length", "1400", "--time", "2")

    def arrived() -> float:
        sent = iperf3(b, a, address(a), *options)["sum"]
        return float(8 * (sent["packets"] - sent["lost_packets"]) * 1442 / sent["seconds"])

    assert_held(arrived, RATE)
    assert here.port("pod:a/eth0")["counters"]["drops"]["ingress_limit"] > 0
    printed = control(here, "ports", "-v", "pod:a/")
    assert "100 Mbit/s, burst 2 Mbit" in printed
    assert "pauses" in printed


def test_a_neighbour_without_a_limit_is_not_held_back(here: Node, three: list[Netns]) -> None:
    a, b, c = three
    with sending(c, a):
        assert wire_rate(c, b, seconds=1) > 1.5 * RATE
        assert wire_rate(b, c, seconds=1) > 1.5 * RATE
    assert limits(here, "pod:b/eth0") == {}


def test_changed_while_packets_flow(here: Node, three: list[Netns]) -> None:
    a, b, _ = three
    with sending(b, a):
        for megabits in (50, 200):
            printed = control(here, "bandwidth", "pod:a", "--ingress", f"{megabits}M")
            assert f"{megabits} Mbit/s" in printed
            time.sleep(0.5)
            assert_held(lambda: counted_rate(here, "pod:a/eth0", "tx_bytes"), megabits * 1e6)
        assert limits(here)["egress_bits_s"] == RATE
        assert "no limit" in control(here, "bandwidth", "pod:a", "--off")
        before = here.port("pod:a/eth0")["counters"]["drops"]
        assert counted_rate(here, "pod:a/eth0", "tx_bytes") > 2.5 * RATE
        assert here.port("pod:a/eth0")["counters"]["drops"] == before
    assert limits(here) == {}


def test_it_outlives_dataplane_and_agent(here: Node, three: list[Netns]) -> None:
    a, b, _ = three
    control(here, "bandwidth", "pod:a", "--ingress", "60M", "--egress", "40M")
    set_now = limits(here)
    here.kill_dataplane()
    wait_until(lambda: _has(here, "pod:a/eth0"), "the port is back")
    assert limits(here) == set_now
    here.end(signal.SIGKILL)  # the dataplane ends with it
    here.start("--keep-dataplane")
    wait_until(lambda: _has(here, "pod:a/eth0"), "the port is back")
    assert limits(here) == set_now
    assert_held(lambda: wire_rate(b, a), 60e6)
    assert_held(lambda: wire_rate(a, b), 40e6)
    packets = here.port("pod:a/eth0")["counters"]["rx_packets"]
    here.end(signal.SIGKILL)
    here.start()
    control(here, "bandwidth", "pod:a", "--egress", "1G")
    assert limits(here) == set_now | {"egress_bits_s": 10**9, "egress_burst_bits": 20_000_000}
    assert here.port("pod:a/eth0")["counters"]["rx_packets"] >= packets, "it was made anew"


def _has(here: Node, port: str) -> bool:
    try:
        return port in here.ports()
    except Exception:
        return False


def test_set_while_the_dataplane_is_down(here: Node, three: list[Netns]) -> None:
    assert len(three) == 3
    here.kill_dataplane()
    control(here, "bandwidth", "pod:a/eth0", "--ingress", "30M")
    wait_until(lambda: _has(here, "pod:a/eth0"), "the port is back")
    wait_until(lambda: limits(here).get("ingress_bits_s") == 30_000_000, "it is in force")


@pytest.mark.parametrize(
    ("bandwidth", "words"),
    [
        ({"ingressRate": -1}, "runtimeConfig.bandwidth.ingressRate: -1 is less than the minimum"),
        ({"egressRate": 8}, "runtimeConfig.bandwidth.egressRate: 8 is neither 0"),
        ({"egressBurst": 8000}, "runtimeConfig.bandwidth.egressBurst: 8000 without egressRate"),
    ],
)
def test_what_cannot_be_is_refused(here: Node, bandwidth: dict[str, int], words: str) -> None:
    with containers(1) as (space,):
        answer = here.call("ADD", "x", space, runtimeConfig={"bandwidth": bandwidth})
    assert (answer.status, answer.body["code"]) == (1, 7)
    assert words in answer.body["msg"]


class Sockets:
    """Applications' sockets on a node."""

    def __init__(self, here: Node, stack: ExitStack) -> None:
        self._here = here
        self._stack = stack
        self._client = DataplaneClient(str(here.directory / "dataplane.sock"))
        stack.callback(self._client.close)

    def add(self, number: int, runtime: dict[str, Any]) -> Application:
        """ADD one whose MAC ends in `number`."""
        here, name = self._here, f"app{number}"
        application = Application(
            self._client, f"pod:{name}/eth0", number, here.directory / "vhost" / name / "eth0.sock"
        )
        (space,) = self._stack.enter_context(containers(1))
        keys: dict[str, Any] = {
            "interface": "vhost-user",
            "spoofCheck": False,
            "runtimeConfig": runtime | {"mac": application.mac},
        }
        here.add(name, space, **keys)
        self._stack.callback(here.delete, name, space, **keys)
        return application


@pytest.fixture
def sockets(here: Node) -> Iterator[Sockets]:
    with ExitStack() as stack:
        yield Sockets(here, stack)


# Smaller ones would fill the sink's ring while the other testpmd has the core.
@pytest.mark.parametrize(
    ("limited", "bytes_per_frame"),
    [("source", 64), ("source", 1514), ("sink", 512), ("sink", 1514)],
)
def test_testpmd(here: Node, sockets: Sockets, limited: str, bytes_per_frame: int) -> None:
    source = sockets.add(1, BOTH if limited == "source" else {})
    sink = sockets.add(2, BOTH if limited == "sink" else {})
    options = (f"--eth-peer=0,{sink.mac}", f"--txpkts={bytes_per_frame}")
    with (
        running_testpmd(sink, "rxonly", device=",queue_size=1024"),
        running_testpmd(source, "txonly", *options, device=",queue_size=1024"),
    ):
        key = {"source": "rx_bytes", "sink": "tx_bytes"}[limited]
        port = {"source": source, "sink": sink}[limited]
        wait_until(lambda: port.counters()[key] > 1_000_000, "packets flow")
        assert_held(lambda: counted_rate(here, port.name, key), RATE)
