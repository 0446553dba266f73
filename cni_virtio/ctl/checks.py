"""What a lab should be able to do: each check gives a figure and a verdict."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cni_virtio.ctl.lab import Lab

_PING = re.compile(r"(\d+) packets transmitted, (\d+) received")
_RTT = re.compile(r"= [\d.]+/([\d.]+)/([\d.]+)/")
_IPERF_PORT = 5201
_SERVER_UP_S = 5.0
_ETHERNET_FRAME_BYTES = 1514
_MIN_RATE_PPS = 10_000


@dataclass(frozen=True)
class Verdict:
    """A figure for people, whether it holds, and if not why."""

    figure: str
    ok: bool = True
    reason: str = ""


def ping(lab: Lab, source: str, address: str, count: int = 50) -> Verdict:
    """Ping from a namespace of the lab; every request must be answered."""
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.01", "-W", "1", address]
    done = lab.exec(source, argv, capture_output=True, text=True, timeout=60)
    found, rtt = _PING.search(done.stdout), _RTT.search(done.stdout)
    if not found or not rtt:
        said = (done.stdout + done.stderr).strip().splitlines()
        return Verdict("no answer", False, f"ping {address} from {source}: {' / '.join(said[-2:])}")
    sent, received = int(found[1]), int(found[2])
    reason = "" if sent == received else f"{sent - received} of {sent} lost"
    figure = f"{float(rtt[1]) * 1000:.0f} us, {received}/{sent}"
    return Verdict(figure, not reason, reason)


def wait_for_answer(lab: Lab, source: str, address: str, timeout_s: float = 20.0) -> bool:
    """Ping until there is an answer, such as from an application that is just starting."""
    deadline = time.monotonic() + timeout_s
    argv = ["ping", "-n", "-q", "-c", "1", "-W", "1", address]
    while time.monotonic() < deadline:
        if lab.exec(source, argv, capture_output=True).returncode == 0:
            return True
        time.sleep(0.1)
    return False


def mesh(lab: Lab) -> Verdict:
    """Ping between all, over IPv4 and IPv6."""
    found = [lab.ping_matrix(version) for version in (4, 6)]
    rtts = [rtt for one in found for rtt in one.rtts_us.values() if rtt is not None]
    failed = [pair for one in found for pair in one.failed]
    total = len(rtts) + len(failed)
    if not rtts:
        return Verdict("no answer", False, "nobody answers")
    figure = f"{len(rtts)}/{total} pairs, median {statistics.median(rtts):.0f} us"
    lost = ", ".join(f"{source} -> {target}" for source, target in failed[:3])
    return Verdict(figure, not failed, f"no answer: {lost}" if failed else "")


@dataclass(frozen=True)
class Stream:
    """What iperf3 measured at the receiver: bits per second, and the sender's retransmissions."""

    bits_per_s: float
    retransmits: int


def iperf3(
    lab: Lab, client: str, server: str, address: str, *, seconds: float = 2.0, reverse: bool = False
) -> Stream:
    """Run iperf3 between two namespaces of the lab. Raises RuntimeError with its words."""
    listen = ["iperf3", "-s", "-1", "-B", address, "-p", str(_IPERF_PORT)]
    serving = lab.popen(server, listen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        argv = ["iperf3", "-c", address, "-p", str(_IPERF_PORT), "-t", str(seconds), "-J"]
        report = _client(lab, client, [*argv, *(["-R"] if reverse else [])], seconds + 15)
    finally:
        serving.kill()
        serving.wait()
    end = report["end"]
    return Stream(
        bits_per_s=float(end["sum_received"]["bits_per_second"]),
        retransmits=int(end["sum_sent"].get("retransmits", 0)),
    )


def throughput(lab: Lab, client: str, server: str, address: str, seconds: float = 2.0) -> Verdict:
    """Measure TCP in both directions; some of it must get through each way."""
    try:
        there = iperf3(lab, client, server, address, seconds=seconds)
        back = iperf3(lab, client, server, address, seconds=seconds, reverse=True)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return Verdict("failed", False, str(error))
    figure = f"{there.bits_per_s / 1e9:.2f} / {back.bits_per_s / 1e9:.2f} Gbit/s"
    ok = min(there.bits_per_s, back.bits_per_s) > 1e6
    return Verdict(figure, ok, "" if ok else "hardly anything gets through")


def frame_bytes(lab: Lab, client: str, server: str, address: str) -> Verdict:
    """Send TCP and see from the counters that it crosses in segments larger than a frame."""
    before = port_counters(lab, client)
    try:
        iperf3(lab, client, server, address, seconds=1.0)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return Verdict("failed", False, str(error))
    after = port_counters(lab, client)
    packets = after["rx_packets"] - before["rx_packets"]
    mean = (after["rx_bytes"] - before["rx_bytes"]) / max(packets, 1)
    ok = mean > _ETHERNET_FRAME_BYTES
    reason = "" if ok else "segments were cut although both ends can take them whole"
    return Verdict(f"{mean / 1024:.1f} KiB a packet", ok, reason)


@dataclass(frozen=True)
class Rates:
    """Packets per second through the dataplane, from and to two applications."""

    forward_pps: float
    back_pps: float


def packet_rates(lab: Lab, reflector: str, seconds: float) -> Rates:
    """Count what a reflecting application gets and sends back, over some seconds."""
    started, before = time.monotonic(), port_counters(lab, reflector)
    time.sleep(seconds)
    took_s, after = time.monotonic() - started, port_counters(lab, reflector)
    return Rates(
        forward_pps=(after["tx_packets"] - before["tx_packets"]) / took_s,
        back_pps=(after["rx_packets"] - before["rx_packets"]) / took_s,
    )


def packet_rate(lab: Lab, reflector: str, seconds: float = 4.0) -> Verdict:
    """As `packet_rates`, with a verdict; the applications must be at it already."""
    rates = packet_rates(lab, reflector, seconds)
    figure = f"{rates.forward_pps / 1e6:.2f} / {rates.back_pps / 1e6:.2f} Mpps"
    ok = min(rates.forward_pps, rates.back_pps) > _MIN_RATE_PPS
    return Verdict(figure, ok, "" if ok else "hardly anything gets through")


def port_counters(lab: Lab, container: str) -> dict[str, Any]:
    """Return the counters of a container's first port. Raises LookupError if it has none."""
    attachment = lab.attachment(container)
    for port in lab.query("ports")["ports"]:
        owner = port.get("attachment") or {}
        if owner.get("container_id") == attachment.container_id:
            counters: dict[str, Any] = port["counters"]
            return counters
    raise LookupError(f"the dataplane has no port for {attachment.who}")


def _client(lab: Lab, name: str, argv: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Run the client again until the server listens."""
    deadline = time.monotonic() + _SERVER_UP_S
    while True:
        done = lab.exec(name, argv, capture_output=True, text=True, timeout=timeout_s)
        try:
            report: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"iperf3: {(done.stderr or done.stdout).strip()}") from None
        error = report.get("error")
        if error is None:
            return report
        if "refused" not in error or time.monotonic() > deadline:
            raise RuntimeError(f"iperf3: {error}")
        time.sleep(0.05)
