"""An agent whose dataplane another supervisor starts, and ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cni_virtio.ctl.agent_client import AgentError, query
from tests.smoke.agent import Node, containers, node_without_agent
from tests.smoke.ports import wait_until
from tests.smoke.supervised import dataplane
from tests.smoke.traffic import ping

GATEWAY = "10.88.0.1"


@pytest.fixture
def here() -> Iterator[Node]:
    with node_without_agent(supervised_by="other") as one:
        yield one


def test_the_agent_follows_the_dataplane_and_leaves_it_alone(here: Node) -> None:
    with containers(1) as (a,):
        with dataplane(here) as first:
            here.start()
            wait_until(lambda: _pid(here) == first.pid, "the agent has found it")
            here.add("a", a, isGateway=True)
            assert ping(a, GATEWAY) == 3
            assert here.end() == 0  # without --keep-dataplane
            assert first.poll() is None
            here.start()
            wait_until(lambda: _pid(here) == first.pid, "the next agent has found it")
            assert here.status()["dataplane"]["restarts"] == 0
            with pytest.raises(AgentError, match="systemctl restart cni-virtio-dataplane"):
                query(here.socket, "upgrade")
            assert first.poll() is None
            first.send_signal(signal.SIGKILL)
            first.wait()
            wait_until(lambda: not here.status()["dataplane"]["running"], "it is missed")
            wait_until(lambda: "nothing serves" in _last_error(here), "it says what it waits for")
        with dataplane(here) as second:
            wait_until(lambda: "pod:a/eth0" in _ports(here), "the new one has the port")
            assert _pid(here) == second.pid
            assert here.status()["dataplane"]["restarts"] == 1
            assert ping(a, GATEWAY) == 3
            here.delete("a", a, isGateway=True)
            assert here.end() == 0
    assert here.left_over() == {}


def _pid(here: Node) -> int | None:
    pid: int | None = here.status()["dataplane"]["pid"]
    return pid


def _last_error(here: Node) -> str:
    return str(here.status()["dataplane"]["last_error"])


def _ports(here: Node) -> set[str]:
    try:
        return here.ports()
    except AgentError:
        return set()
