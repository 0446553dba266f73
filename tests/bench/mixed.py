"""A kernel container to a vhost-user container, where testpmd turns 64-byte UDP packets round.

The forwarder owns its core; the client and testpmd share the load's core. testpmd polls, so it
runs in the time that nobody else wants (SCHED_IDLE), and the client is on as soon as an answer
has come. The rate is that of RATE_LOAD under way: it fits all rings, so that none is lost. Of
OVS the polling thread serves vhost-user and the main thread reads kernel interfaces: both on the
forwarder's core they hinder each other, so it is also measured with the main thread on the
load's, which is its best.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.bounce import RING, Meter
from tests.bench.bounce import Load as Ring
from tests.bench.cores import FORWARDER_CORE, LOAD_CORE
from tests.bench.dataplane import bench_lab
from tests.bench.exchange import Load, exchange
from tests.bench.measure import CYCLES, RATE, Bench, Effort, Figures, Subject, Target
from tests.bench.ovs import PACKAGES, switch
from tests.bench.pair import introduce, ip4
from tests.bench.testpmd import Testpmd, testpmd
from tests.smoke.netns import Netns, netns

RATE_LOAD: Final = Load(datagrams=64, batches=4)

_OVS: Final = "OVS-DPDK"
_OVS_BOTH: Final = "OVS-DPDK, both cores"


@dataclass(frozen=True, slots=True)
class Mixed:
    """A kernel container, and the socket and address of one in user space."""

    netns: Netns
    socket: Path
    address: str
    meter: Meter | None = None


@contextmanager
def _ours() -> Iterator[Mixed]:
    with bench_lab() as lab:
        network = lab.network()
        application, container = lab.application(network, 1), lab.container(network, 2)
        container.know(application)
        yield Mixed(container.netns, application.path, application.ip4, Meter.of(lab))


@contextmanager
def _ovs(main_core: int) -> Iterator[Mixed]:
    with ExitStack() as stack:
        ovs = stack.enter_context(switch(normal=True, main_core=main_core))
        space = stack.enter_context(netns())
        path = ovs.add_vhost("app")
        ovs.add_tap("tap", space)
        introduce(space, 2)
        yield Mixed(space, path, ip4(1))


def _measure(make: Callable[[], AbstractContextManager[Mixed]], effort: Effort) -> Figures:
    options = ("--forward-mode=5tswap", f"--rxd={RING}", f"--txd={RING}")
    with (
        make() as mixed,
        testpmd(LOAD_CORE, [Ring().virtio_user(0, mixed.socket)], *options) as app,
    ):
        _run_when_idle(app)
        app.command("start")
        seconds = effort.seconds / 2
        singly = exchange(mixed.netns, mixed.address, Load(), seconds)
        if mixed.meter:
            mixed.meter.begin()
        together = exchange(mixed.netns, mixed.address, RATE_LOAD, seconds)
        return {
            RATE: together.packets / together.seconds / 1e6,
            **({CYCLES: mixed.meter.cycles_per_packet()} if mixed.meter else {}),
            "udp p50": singly.percentile(50),
            "udp p99": singly.percentile(99),
        }


def _run_when_idle(app: Testpmd) -> None:
    for task in Path(f"/proc/{app.process.pid}/task").iterdir():
        os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


MIXED = Bench(
    "mixed",
    "kernel container to vhost-user container and back, UDP, 64 B",
    (
        Subject("cni-virtio", partial(_measure, _ours)),
        Subject(_OVS, partial(_measure, partial(_ovs, FORWARDER_CORE))),
        Subject(_OVS_BOTH, partial(_measure, partial(_ovs, LOAD_CORE))),
    ),
    {RATE: "Mpps", CYCLES: "busy cycles/packet", "udp p50": "us", "udp p99": "us"},
    (Target(RATE, ">=", 2, _OVS), Target(RATE, ">=", 2, _OVS_BOTH)),
    PACKAGES,
)
