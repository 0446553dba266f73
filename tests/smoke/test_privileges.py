"""What agent and dataplane may still do when something else has not confined them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cni_virtio.privileges import AGENT
from dataplane.privileges import DATAPLANE, NUMBERS
from tests.smoke.agent import Node, containers, node_without_agent
from tests.smoke.ports import wait_until
from tests.smoke.supervised import dataplane

UPLINK = """
uplinks:
  - {name: packet, device: "af_packet:p0"}
"""


@pytest.fixture
def here() -> Iterator[Node]:
    """A node whose processes start with all that root has, and use much of it."""
    with node_without_agent(more_config=UPLINK, supervised_by="other") as one:
        one.host.run("ip", "link", "add", "p0", "type", "veth", "peer", "peer0")
        with dataplane(one), containers(2) as (a, b):
            one.start()
            wait_until(lambda: one.ports() == {"uplink:packet"}, "the uplink")
            one.add("a", a, isGateway=True)
            one.add("b", b, interface="vhost-user", vhostUser={"mode": "server"})
            yield one
            one.delete("b", b, interface="vhost-user")
            one.delete("a", a, isGateway=True)
            assert one.end() == 0
            assert one.left_over() == {}


def test_every_thread_has_what_it_needs_and_no_more(here: Node) -> None:
    for pid, kept in ((here.pid, AGENT), (here.status()["dataplane"]["pid"], DATAPLANE)):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        assert len(tasks) > 4
        for task in tasks:
            found = fields(task)
            mask = f"{sum(1 << NUMBERS[name] for name in kept):016x}"
            assert {found[f"Cap{which}"] for which in ("Prm", "Eff", "Bnd")} == {mask}, task
            assert {int(found[f"Cap{which}"], 16) for which in ("Inh", "Amb")} == {0}, task
            assert found["NoNewPrivs"] == "1", task
            assert found["Seccomp"] == ("2" if kept is DATAPLANE else "0"), task


def fields(task: Path) -> dict[str, str]:
    lines: Iterable[str] = (task / "status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
