"""What is asked of a container's network, whichever runtime started it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.request import urlopen

from tests.runtimes.images import PAGE
from tests.runtimes.node import GATEWAYS, HOST_ADDRESSES, OUTSIDE, RuntimeNode

Execute = Callable[..., str]
"""Runs a command in a container and gives its standard output."""

BEYOND_NEIGHBOURS = (*GATEWAYS, *OUTSIDE)
WEB_SERVER = ("httpd", "-f", "-p", "80", "-h", "/www")
HOST_PORT = 8080
CHAINED_MTU = 1400
CHAINED_SOMAXCONN = 317


def chain() -> list[dict[str, Any]]:
    """Give four reference plugins, as they come after ours in a conflist."""
    return [
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "firewall"},
        {
            "type": "tuning",
            "mtu": CHAINED_MTU,
            "sysctl": {"net.core.somaxconn": str(CHAINED_SOMAXCONN)},
        },
        {"type": "bandwidth"},  # without rates of its own it passes results on
    ]


def assert_reaches(execute: Execute, addresses: Iterable[str]) -> None:
    """Ping from a container."""
    for address in addresses:
        printed = execute("ping", "-c", "2", "-i", "0.1", "-W", "2", address)
        assert re.search(r"2 packets transmitted, 2 packets received", printed), printed


def assert_chain_did_its_work(node: RuntimeNode, execute: Execute, addresses: list[str]) -> None:
    """Look for what firewall and tuning do."""
    assert execute("cat", "/proc/sys/net/core/somaxconn").strip() == str(CHAINED_SOMAXCONN)
    assert f"mtu {CHAINED_MTU}" in execute("ip", "link", "show", "eth0")
    rules = node.here.run("iptables-save") + node.here.run("ip6tables-save")
    for address in addresses:
        length = 128 if ":" in address else 32
        assert f"-A CNI-FORWARD -s {address}/{length} -j ACCEPT" in rules


def assert_is_served(node: RuntimeNode, addresses: Iterable[str] = HOST_ADDRESSES) -> None:
    """Fetch a page from the host's port, by way of another of the host's networks."""
    for address in addresses:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{HOST_PORT}/page"
        assert node.visitor.inside(partial(fetch, url)) == PAGE


def fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text
