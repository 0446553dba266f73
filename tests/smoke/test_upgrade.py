"""A new dataplane process in the place of the present one, which containers hardly notice."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from cni_virtio.ctl.agent_client import AgentError, query
from cni_virtio.ctl.cli import cli
from tests.smoke.agent import Node, node, until_gone
from tests.smoke.fleet import Fleet, fleet
from tests.smoke.outages import assert_little_lost, losing_nothing, until_all_go_on

LITTLE_MEMORY = 8 << 30
"""Of addresses: enough for a program, and not for what EAL reserves."""


@pytest.fixture(scope="module")
def four() -> Iterator[tuple[Node, Fleet]]:
    """A node with two kernel containers, and a user-space one of each kind."""
    with node() as here, fleet(here, kernel=2, clients=1, servers=1) as all_:
        yield here, all_


@pytest.fixture(autouse=True)
def fresh_flows(four: tuple[Node, Fleet]) -> None:
    for flow in four[1].flows:
        flow.forget()


def added_hugepages(here: Node) -> int:
    """How many the agent has asked the kernel for, and has not given back."""
    record = here.directory / "state" / "hugepages-added"
    return int(record.read_text()) if record.exists() else 0


@pytest.mark.parametrize("agent", ["first", "second"])
def test_everything_changes_over(four: tuple[Node, Fleet], agent: str) -> None:
    here, all_ = four
    if agent == "second":  # as after an upgrade of the agent itself
        here.end(signal.SIGKILL)
        here.start()
    before, pages = here.status()["dataplane"], added_hugepages(here)
    with losing_nothing(all_):
        moment_s = time.monotonic()
        done = CliRunner().invoke(cli, ["--socket", str(here.socket), "upgrade"])
        until_all_go_on(here, all_, time.monotonic())
    after = here.status()["dataplane"]
    assert done.exit_code == 0
    assert f"0.1.0 (pid {before['pid']}) -> 0.1.0 (pid {after['pid']})" in done.output
    assert done.output.endswith("5 of 5 are there\n")
    assert after["restarts"] == before["restarts"]
    assert_little_lost(all_.to_kernel, moment_s)
    until_gone(before["pid"])
    assert {path.name for path in here.directory.glob("dataplane*")} == {"dataplane.sock"}
    assert added_hugepages(here) <= pages


def test_one_that_does_not_start_leaves_the_present_one_as_it_was(
    four: tuple[Node, Fleet],
) -> None:
    here, all_ = four
    assert here.process
    before, pages = here.status()["dataplane"], added_hugepages(here)
    limit = resource.prlimit(here.process.pid, resource.RLIMIT_AS)
    resource.prlimit(here.process.pid, resource.RLIMIT_AS, (LITTLE_MEMORY, limit[1]))
    try:
        with pytest.raises(AgentError, match="does not start, the present one serves on: DPDK"):
            query(here.socket, "upgrade", timeout_s=60)
    finally:
        resource.prlimit(here.process.pid, resource.RLIMIT_AS, limit)
    assert here.status()["dataplane"] == before
    assert all_.port_names <= here.ports()
    assert added_hugepages(here) <= pages
    assert {path.name for path in here.directory.glob("dataplane*")} == {"dataplane.sock"}


def test_the_new_one_can_be_killed_like_the_old_one(four: tuple[Node, Fleet]) -> None:
    here, all_ = four
    query(here.socket, "upgrade", timeout_s=60)
    with losing_nothing(all_):
        until_all_go_on(here, all_, here.kill_dataplane())
    assert here.status()["failures"] == {}
