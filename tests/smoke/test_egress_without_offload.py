"""A receiver that takes neither large segments nor open checksums still gets correct data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.netns import netns
from tests.smoke.ports import Container, Port, counting, switch_offloads, wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import DATA_HASH, ping, send_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.topology import Lab


@pytest.fixture(scope="module")
def behind_frontend(module_lab: Lab) -> Iterator[tuple[Container, Container, Port]]:
    """A kernel stack whose packets testpmd carries between a tap and a vhost-user socket.

    A frontend without an offload says so to the port: all that reaches it must be finished.
    """
    network = module_lab.network()
    kernel = module_lab.container(network, 1)
    port = module_lab.application(network, 2)
    with netns() as space:
        far = Container(module_lab.control, port.name, port.number, space)
        tap = ("--vdev=net_tap0,iface=eth0",)
        with running_testpmd(port, "io", eal=tap, inside=("ip", "netns", "exec", space.name)):
            wait_until(lambda: "eth0" in space.run("ip", "-br", "link"), "testpmd's tap")
            far.set_up()
            wait_until(lambda: ping(kernel.netns, far.ip4, 1), "the tap answers")
            yield kernel, far, port


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_segments_and_checksums_are_finished(
    behind_frontend: tuple[Container, Container, Port], family: str
) -> None:
    kernel, far, port = behind_frontend
    with counting(port) as rise:
        arrived = send_data(kernel.netns, far.netns, getattr(far, family))
    assert arrived == DATA_HASH
    assert rise["sw_gso_packets"] > 0
    assert rise["sw_csum_packets"] > 0
    assert rise["tx_gso_packets"] == 0
    assert rise["tx_bytes"] / rise["tx_packets"] <= 1514
    assert rise["drops"].get("too_big", 0) == 0


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_its_own_small_packets_arrive(
    behind_frontend: tuple[Container, Container, Port], family: str
) -> None:
    kernel, far, _ = behind_frontend
    assert send_data(far.netns, kernel.netns, getattr(kernel, family)) == DATA_HASH


@pytest.mark.parametrize("family", ["ip4", "ip6"])
def test_kernel_container_with_its_offloads_off(lab: Lab, family: str) -> None:
    network = lab.network()
    kernel, plain = lab.container(network, 1), lab.container(network, 2)
    switch_offloads(plain.netns, "eth0", "tso", "gso", "tx")
    assert send_data(kernel.netns, plain.netns, getattr(plain, family)) == DATA_HASH
    with counting(plain) as rise:
        assert send_data(plain.netns, kernel.netns, getattr(kernel, family)) == DATA_HASH
    # It segments and sums by itself; the engine leaves that alone.
    assert rise["rx_gso_packets"] == 0
    assert rise["rx_bytes"] / rise["rx_packets"] <= 1514
