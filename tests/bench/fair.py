"""What two containers have of each other while a third does its worst, and while it is quiet.

The victims are kernel containers: one asks by ICMP, the other's kernel answers, many questions
under way for the rate, one for the latency. The attacker is a testpmd on a vhost-user socket that
always has more to send than the worker takes: to one container, to all (there are many), or to one
that never takes anything out of its ring. It runs in the time of the load's core that the asking
program does not want (SCHED_IDLE), and a quiet neighbour polls there as well, so that what the
victims lose, they lose in the dataplane.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.bounce import RING
from tests.bench.cores import LOAD_CORE, on_core
from tests.bench.dataplane import bench_lab
from tests.bench.frontend import connect_silently
from tests.bench.measure import Bench, Effort, Figures, Subject, Target
from tests.bench.testpmd import Testpmd, testpmd
from tests.smoke.netns import Netns
from tests.smoke.topology import Lab

_BYSTANDERS: Final = 40
_UNDER_WAY: Final = 16
_ATTACKER, _UNREAD, _FIRST = 1, 2, 3
_REQUEST: Final = struct.Struct("!BBHHH")
_REPLY_AT: Final = 20
_TIMEOUT_S: Final = 1.0
_SETTLE_S: Final = 0.2
"""By then a container has spent what it may broadcast at once."""
_QUIET: Final = "quiet neighbour"
_BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
_UNITS: Final = {"rate": "k answers/s", "p50": "us", "p99": "us"}
_ATTACKS: Final = ("full speed", "broadcast", "unread ring")


def ask(space: Netns, address: str, under_way: int, seconds: float) -> tuple[float, list[float]]:
    """Ask by ICMP, so many questions under way; give answers per second and microseconds each."""
    sock = space.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    with sock, on_core(LOAD_CORE):
        sock.settimeout(_TIMEOUT_S)
        sock.connect((address, 0))
        requests = deque(_request(number) for number in range(under_way))
        sent_at: deque[int] = deque()
        for request in requests:
            sock.send(request)
            sent_at.append(time.perf_counter_ns())
        took_us: list[float] = []
        began_ns = now_ns = time.perf_counter_ns()
        while now_ns < began_ns + seconds * 1e9:
            if sock.recv(128)[_REPLY_AT] != 0:
                continue
            now_ns = time.perf_counter_ns()
            took_us.append((now_ns - sent_at.popleft()) / 1e3)
            sock.send(requests[0])
            sent_at.append(now_ns)
            requests.rotate(-1)
        return len(took_us) / (now_ns - began_ns) * 1e9, took_us


def _request(number: int) -> bytes:
    checksum = 0xFFFF - (0x0800 + number)
    return _REQUEST.pack(8, 0, checksum, 0, number)


@contextmanager
def _attacker(lab: Lab, network: str) -> Iterator[Testpmd]:
    application = lab.application(network, _ATTACKER, spoof_check=False)
    device = f"net_virtio_user0,path={application.path},mac={application.mac}"
    rings = f"queue_size={RING},packed_vq=1,in_order=1"
    options = ("--forward-mode=txonly", f"--rxd={RING}", f"--txd={RING}", "--txpkts=60")
    with testpmd(LOAD_CORE, [f"{device},{rings}"], *options) as app:
        for task in Path(f"/proc/{app.process.pid}/task").iterdir():
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))
        yield app


def _measure(effort: Effort, *, attacked: bool) -> Figures:
    figures: dict[str, float] = {}
    with bench_lab() as lab, ExitStack() as stack:
        network = lab.network()
        unread = lab.application(network, _UNREAD)
        connect_silently(stack, unread.path)
        asking, asked, sink, *_ = [
            lab.container(network, _FIRST + number) for number in range(_BYSTANDERS)
        ]
        asking.know(asked)
        asked.know(asking)
        app = stack.enter_context(_attacker(lab, network))
        targets = (sink.mac, _BROADCAST, unread.mac)
        for attack, target in zip(_ATTACKS, targets, strict=True):
            app.command(f"set eth-peer 0 {target}")
            app.command(f"set fwd {'txonly' if attacked else 'rxonly'}")
            app.command("start")
            time.sleep(_SETTLE_S)
            seconds = effort.seconds / 2
            rate, _ = ask(asking.netns, asked.ip4, _UNDER_WAY, seconds)
            _, took_us = ask(asking.netns, asked.ip4, 1, seconds)
            ordered = sorted(took_us)
            figures[f"{attack}: rate"] = rate / 1e3
            figures[f"{attack}: p50"] = statistics.median(ordered)
            figures[f"{attack}: p99"] = ordered[len(ordered) * 99 // 100]
            app.command("stop")
    return figures


FAIR: Final = Bench(
    "fair",
    f"two of {_BYSTANDERS} kernel containers, beside one in user space that does its worst",
    (
        Subject("cni-virtio", partial(_measure, attacked=True)),
        Subject(_QUIET, partial(_measure, attacked=False)),
    ),
    {f"{attack}: {what}": unit for attack in _ATTACKS for what, unit in _UNITS.items()},
    (
        # Of two who are busy each has half of a worker.
        Target("full speed: rate", ">=", 0.45, _QUIET),
        Target("full speed: p50", "<=", 1.1, _QUIET),
        Target("broadcast: rate", ">=", 0.9, _QUIET),
        Target("unread ring: rate", ">=", 0.9, _QUIET),
    ),
)
