"""Steps with traffic: every datagram is counted, and none may be lost, doubled or overtaken."""

from __future__ import annotations

import itertools
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.smoke.frames import ARP, BROADCAST, arp, ethernet
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import ping
from tests.soak.model import APART, PODS, Container, Model

_DATAGRAMS = 32
_PAYLOAD_BYTES = 200
_PATIENCE_S = 5.0
_SILENCE_S = 0.3
_REPLY = re.compile(r"\[(\d+\.\d+)\] \d+ bytes from ")


def exchange(source: Netns, sink: Netns, address: str) -> None:
    """Send datagrams and see that each of them arrives once, in order."""
    receiver = sink.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = source.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with receiver, sender:
        receiver.bind((address, 0))
        # While the kernel asks for a neighbour it may itself mix up what waits for the answer.
        _send(sender, receiver, 1)
        assert len(list(_received(receiver, 1))) == 1, f"{source.name} does not reach {address}"
        _send(sender, receiver, _DATAGRAMS)
        numbers = [int.from_bytes(payload[:4]) for payload in _received(receiver, _DATAGRAMS)]
        way = f"{source.name} to {address}"
        assert numbers == list(range(_DATAGRAMS)), f"{way}: of {_DATAGRAMS}, {numbers} arrived"


def _send(sender: socket.socket, receiver: socket.socket, count: int) -> None:
    for number in range(count):
        payload = number.to_bytes(4).ljust(_PAYLOAD_BYTES, b"\0")
        sender.sendto(payload, receiver.getsockname())


def _received(receiver: socket.socket, count: int) -> Iterator[bytes]:
    deadline_s = time.monotonic() + _PATIENCE_S
    for _ in range(count):
        if not select.select([receiver], [], [], max(deadline_s - time.monotonic(), 0))[0]:
            return
        yield receiver.recv(2 * _PAYLOAD_BYTES)


@contextmanager
def counting_silence(model: Model, who: str, *, may_lose: bool) -> Iterator[None]:
    """Have a container ask another all the time, and note the longest time without an answer."""
    ends = model.kernel(PODS)[:2]
    if len(ends) < 2:
        yield
        return
    words = ("ping", "-n", "-D", "-i", "0.01", "-W", "1", ends[1].address)
    with ends[0].space.running(*words) as process:
        assert process.stdout
        process.stdout.readline()
        printed = process.stdout.readline()  # the first answer
        yield
        time.sleep(0.1)
        process.send_signal(2)
        printed += process.communicate(timeout=10)[0]
    at_s = [float(text) for text in _REPLY.findall(printed)]
    gaps = [after - before for before, after in itertools.pairwise(at_s)]
    model.silences_s.setdefault(who, []).append(max(gaps, default=0.0))
    sent, received = map(int, re.findall(r"(\d+) (?:packets transmitted|received)", printed))
    # What was sent when it was ended may be under way.
    assert may_lose or sent - received <= 1, f"{sent - received} of {sent} pings lost"


# --- steps ----------------------------------------------------------------------------------------


def between_containers(model: Model) -> str:
    """Both ways between two containers of a network, and to the host."""
    net = model.random.choice((PODS, APART))
    ends = model.kernel(net)
    if not ends:
        return "nobody there"
    one, other = model.random.choice(ends), model.random.choice(ends)
    if one is not other:
        exchange(one.space, other.space, other.address)
        exchange(other.space, one.space, one.address)
    if model.has_gateway(net):
        exchange(one.space, model.node.host, net.gateway)
        exchange(model.node.host, one.space, one.address)
    return f"{one.name} and {other.name}"


def across_networks(model: Model) -> str:
    """Nobody reaches the other network, however it asks."""
    from_net, to_net = model.random.choice(((PODS, APART), (APART, PODS)))
    sources, sinks = model.kernel(from_net), list(model.of(to_net))
    if not sources or not sinks:
        return "nobody there"
    source, sink = model.random.choice(sources), model.random.choice(sinks)
    with source.space.packet_socket() as sock:
        sock.send(_arp_request(source, sink.address))
        deadline_s = time.monotonic() + _SILENCE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            if select.select([sock], [], [], left_s)[0]:
                frame = sock.recv(2048)
                assert socket.inet_aton(sink.address) != frame[28:32], "an answer from afar"
    return f"{source.name} to {sink.name}"


def _arp_request(source: Container, target: str) -> bytes:
    return ethernet(BROADCAST, source.mac, ARP, arp(1, source.mac, source.address, target))


@dataclass(frozen=True)
class _Socket:
    model: Model
    container: Container

    @property
    def path(self) -> Path:
        return self.container.socket

    @property
    def mac(self) -> str:
        return self.container.mac

    def ready(self) -> bool:
        ready: bool = self.model.node.port(self.container.port)["state"]["ready"]
        return ready

    def wait_ready(self) -> None:
        wait_until(self.ready, f"{self.container.name} has a frontend")


def application(model: Model) -> str:
    """An application takes its socket, answers all others, and is killed."""
    applications = [each for each in model.of(PODS) if not each.kind.is_kernel]
    if not applications:
        return "none there"
    container = model.random.choice(applications)
    port, device = _Socket(model, container), ""
    if container.kind.role == "server":
        port.path.unlink(missing_ok=True)  # of one that was killed
        device = ",server=1"
    with running_testpmd(port, "icmpecho", device=device):
        for other in model.kernel(PODS)[:2]:
            assert ping(other.space, container.address) == 3, f"{other.name} asks {container.name}"
    wait_until(lambda: not port.ready(), f"{container.name} has no frontend any more")
    return container.name
