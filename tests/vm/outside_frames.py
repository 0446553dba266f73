"""What the tests let run outside the VM: it prints one line when it is ready, then what it found.

watch IFNAME           checks every frame that arrives, until SIGINT
bounce IFNAME MAC N R  sends N frames to MAC, R a second, and counts those that come back
spray IFNAME MAC N     sends N datagrams to MAC, each of another flow
answer IFNAME          answers one broadcast datagram to the port of DHCP servers by another
echo ADDRESS           sends all back that comes by UDP or TCP to a port of its own
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.smoke.frames import (
    EXPERIMENTAL,
    IPV4,
    IPV6,
    UDP,
    Frame,
    checksum_errors,
    ethernet,
    ipv4,
    receive,
    udp,
)
from tests.smoke.netns import open_packet_socket

ETHERNET_BYTES = 14
DHCP_SERVER, DHCP_CLIENT = 67, 68
ECHO = 6000

_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PATIENCE_S = 5.0
_INTERVAL_S = 0.005


def watch(ifname: str) -> dict[str, Any]:
    """Say how many frames came, of which kinds, and what was wrong with any of them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    frames: list[Frame] = []
    with open_packet_socket(ifname) as sock:
        _say("ready")
        try:
            while True:
                if frame := receive(sock, 60):
                    frames.append(frame)
        except KeyboardInterrupt:
            _, missed = struct.unpack("II", sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
    packets = [frame for frame in frames if frame.type in (IPV4, IPV6)]
    faults = {
        errors[0]: frame.data.hex() for frame in packets if (errors := checksum_errors(frame))
    }
    return {
        "packets": len(packets),
        "longest_bytes": max((len(frame.data) - ETHERNET_BYTES for frame in frames), default=0),
        "faults": faults,
        "missed": missed,
    }


def bounce(ifname: str, mac: str, count: str, rate_hz: str) -> dict[str, int]:
    """Send numbered frames; say how many were sent and came back, and how many came twice."""
    source = Path("/sys/class/net", ifname, "address").read_text().strip()
    came_back: list[int] = []
    with open_packet_socket(ifname) as sock:
        _say("ready")
        start_s = time.monotonic()
        for number in range(int(count)):
            due_s = start_s + number / int(rate_hz)
            _collect(sock, came_back, due_s)
            sock.send(ethernet(mac, source, EXPERIMENTAL, struct.pack("!I", number)))
        deadline_s = time.monotonic() + _PATIENCE_S
        while len(came_back) < int(count) and time.monotonic() < deadline_s:
            _collect(sock, came_back, time.monotonic() + 0.1)
    return {
        "sent": int(count),
        "returned": len(set(came_back)),
        "twice": len(came_back) - len(set(came_back)),
    }


def _collect(sock: socket.socket, numbers: list[int], until_s: float) -> None:
    while True:
        frame = receive(sock, max(until_s - time.monotonic(), 0))
        if frame is None:
            return
        if frame.type == EXPERIMENTAL:
            numbers.append(struct.unpack_from("!I", frame.data, ETHERNET_BYTES)[0])


def spray(ifname: str, mac: str, count: str) -> dict[str, int]:
    """Send datagrams that differ in their source port."""
    source = Path("/sys/class/net", ifname, "address").read_text().strip()
    with open_packet_socket(ifname) as sock:
        _say("ready")
        for number in range(int(count)):
            packet = ipv4("192.0.2.1", "192.0.2.2", UDP, udp(1024 + number, 9, bytes(64)))
            sock.send(ethernet(mac, source, IPV4, packet))
            time.sleep(_INTERVAL_S)
    return {"sent": int(count)}


def answer(ifname: str) -> dict[str, int]:
    """Wait for a datagram and answer it as it came: by broadcast, with what was in it."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.settimeout(30)
        sock.bind(("", DHCP_SERVER))
        _say("ready")
        data = sock.recv(1 << 16)
        sock.sendto(data, ("255.255.255.255", DHCP_CLIENT))
    return {"bytes": len(data)}


def echo(address: str) -> dict[str, int]:
    """Send back what comes, to whoever sent it, until it is ended."""
    with (
        socket.create_server((address, ECHO)) as listener,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.bind((address, ECHO))
        threading.Thread(target=_echo_streams, args=[listener], daemon=True).start()
        _say("ready")
        while True:
            sock.sendto(*sock.recvfrom(1 << 16))


def _echo_streams(listener: socket.socket) -> None:
    while True:
        threading.Thread(target=_echo_stream, args=[listener.accept()[0]], daemon=True).start()


def _echo_stream(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    commands: dict[str, Callable[..., object]]
    commands = {"watch": watch, "bounce": bounce, "spray": spray, "answer": answer}
    commands["echo"] = echo
    _say(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
