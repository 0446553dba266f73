"""Rates out of two readings of counters."""

from __future__ import annotations

from typing import Any

from cni_virtio.ctl.rates import Sample, rates

HZ = 2e9
QUIET: dict[str, Any] = {
    "core": 1,
    "rx_queues": 2,
    "rounds": 10,
    "busy_cycles": 0,
    "idle_cycles": 0,
    "sleep_cycles": 0,
    "packets": 0,
    "sleeps": 0,
    "wake_cycles": 0,
    "wakes": [0] * 16,
}
COUNTERS: dict[str, Any] = {
    "rx_packets": 0,
    "tx_packets": 0,
    "rx_bytes": 0,
    "tx_bytes": 0,
    "drops": {},
}


def worker(**changed: Any) -> dict[str, Any]:
    return QUIET | changed


def port(name: str = "pod:a/eth0", **changed: Any) -> dict[str, Any]:
    spec = {"name": name, "network": "pods"}
    return {"spec": spec, "counters": COUNTERS | changed, "attachment": None}


def sample(at_s: float, workers: list[dict[str, Any]], ports: list[dict[str, Any]]) -> Sample:
    return Sample(at_s, HZ, tuple(workers), tuple(ports))


def test_a_worker() -> None:
    busy = worker(
        rounds=20,
        busy_cycles=500_000_000,
        idle_cycles=500_000_000,
        sleep_cycles=3_000_000_000,
        packets=5_000_000,
        sleeps=40,
    )
    (found,) = rates(sample(0, [worker()], []), sample(2, [busy], [])).workers
    assert (found.busy_share, found.asleep_share) == (0.125, 0.75)
    assert (found.packets_per_s, found.cycles_per_packet) == (2_500_000, 100)
    assert found.sleeps_per_s == 20


def test_a_worker_that_did_nothing_has_no_cycles_per_packet() -> None:
    (found,) = rates(sample(0, [worker()], []), sample(1, [worker()], [])).workers
    assert (found.cycles_per_packet, found.wake_mean_us, found.wake_p99_below_us) == (None,) * 3


def test_wake_latency() -> None:
    before = worker(wake_cycles=1000, wakes=[7] + [0] * 15)
    after = worker(wake_cycles=1000 + 100 * 20_000, wakes=[7, 0, 0, 97, 0, 0, 0, 3] + [0] * 8)
    (found,) = rates(sample(0, [before], []), sample(1, [after], [])).workers
    assert found.wake_mean_us == 10
    assert found.wake_p99_below_us == 128


def test_after_a_restart_it_counts_from_nothing() -> None:
    before = worker(rounds=1000, packets=900, wakes=[5] * 16, wake_cycles=10**9)
    after = worker(rounds=10, packets=50, wakes=[0, 1] + [0] * 14, wake_cycles=2000)
    (found,) = rates(sample(0, [before], []), sample(1, [after], [])).workers
    assert (found.packets_per_s, found.wake_mean_us, found.wake_p99_below_us) == (50, 1, 2)


def test_ports_are_in_order_of_their_packets() -> None:
    before = sample(0, [], [port("a"), port("b"), port("gone")])
    busy = port("b", rx_packets=10, tx_packets=4, rx_bytes=1000, tx_bytes=500, drops={"vlan": 6})
    found = rates(before, sample(2, [], [port("a"), busy, port("new", rx_packets=99)])).ports
    assert [each.name for each in found] == ["b", "a"]
    assert (found[0].rx_packets_per_s, found[0].tx_packets_per_s) == (5, 2)
    assert (found[0].rx_bits_per_s, found[0].tx_bits_per_s) == (4000, 2000)
    assert found[0].drops_per_s == 3


def test_a_port_that_was_added_anew_counts_from_nothing() -> None:
    before = sample(0, [], [port(rx_packets=100, drops={"vlan": 50})])
    (found,) = rates(before, sample(1, [], [port(rx_packets=7, drops={"vlan": 1})])).ports
    assert (found.rx_packets_per_s, found.drops_per_s) == (7, 1)
