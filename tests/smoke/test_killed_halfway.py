"""kill -9 at every step of ADD and DEL: what is there afterwards is whole, or it is nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cni_virtio.ctl.agent_client import AgentError, query
from tests.smoke.agent import PLUGINS, Answer, containers, until_gone
from tests.smoke.faults import FaultyNode, Traces, faulty_node
from tests.smoke.faulty_agent import SWAPPED
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

KINDS: dict[str, dict[str, Any]] = {
    "kernel": {"isDefaultGateway": True, "ipMasq": True},
    "vhost-user": {"interface": "vhost-user", "capabilities": {"CNIDeviceInfoFile": True}},
}
PATIENCE_S = 10
GATEWAY = "10.88.0.1"
LEAST_BOUNDARIES = {"ADD": 20, "DEL": 14, "undo": 10}
"""Fewer would mean that the steps are not seen."""
STRIDE = 7
"""A restart of the dataplane takes longer, so it is killed at some of the boundaries only."""

SLOW_PLUGIN = f"""\
#!/bin/sh
[ $CNI_COMMAND = ADD ] || exec {PLUGINS}/host-local
touch $CNI_PATH/began
sleep 0.5
{PLUGINS}/host-local
touch $CNI_PATH/leased
"""

REFUSED_LATE = 102
LATE_REFUSAL = f"""\
#!/bin/sh
[ $CNI_COMMAND = ADD ] || exec {PLUGINS}/host-local
{PLUGINS}/host-local
sleep 0.1
exit 1
"""
"""By then the rest of the ADD is done."""


@pytest.fixture(scope="module")
def faulty() -> Iterator[FaultyNode]:
    with faulty_node() as one:
        yield one


@pytest.fixture(params=KINDS)
def keys(request: pytest.FixtureRequest, faulty: FaultyNode) -> dict[str, Any]:
    """What the netconf of an attachment says."""
    file = {"CNIDeviceInfoFile": str(faulty.info_file)}
    kind = KINDS[request.param]
    return kind | ({"runtimeConfig": file} if "capabilities" in kind else {})


@pytest.fixture
def whole(faulty: FaultyNode, keys: dict[str, Any]) -> Traces:
    """What there is of an attachment that nothing has happened to."""
    with containers(1) as (a,):
        assert faulty.traces(a) == {}
        faulty.node.add("c", a, **keys)
        found = faulty.traces(a)
        assert found["records"] == [True]
        faulty.node.delete("c", a, **keys)
        assert faulty.traces(a) == {}
    return found


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_the_agent(faulty: FaultyNode, keys: dict[str, Any], whole: Traces, verb: str) -> None:
    dataplane = faulty.dataplane_pid
    for a, answer in killed(faulty, verb, keys, lambda: [faulty.pid]):
        assert answer.body["code"] == 11
        faulty.start()
        assert_whole_or_nothing(faulty, a, whole, verb, keys)
    assert faulty.dataplane_pid == dataplane


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_the_dataplane(faulty: FaultyNode, keys: dict[str, Any], whole: Traces, verb: str) -> None:
    for a, answer in killed(faulty, verb, keys, lambda: [faulty.dataplane_pid], STRIDE):
        faulty.node.wait_ready()
        has = assert_whole_or_nothing(faulty, a, whole, verb, keys)
        if verb == "ADD":
            assert has == (answer.status == 0)
            assert has or answer.body["code"] == 11
        else:
            assert answer.status == 0
            assert not has
        faulty.restart()  # which restarts its dataplane without a pause again


@pytest.mark.parametrize("keys", ["kernel"], indirect=True)
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_both(faulty: FaultyNode, keys: dict[str, Any], whole: Traces, verb: str) -> None:
    both = lambda: [faulty.dataplane_pid, faulty.pid]  # noqa: E731
    for a, answer in killed(faulty, verb, keys, both, STRIDE):
        assert answer.body["code"] == 11
        faulty.start()
        assert_whole_or_nothing(faulty, a, whole, verb, keys)


def killed(
    faulty: FaultyNode,
    verb: str,
    keys: dict[str, Any],
    victims: Callable[[], list[int]],
    stride: int = 1,
) -> Iterator[tuple[Netns, Answer]]:
    """Make a call for each boundary at which the victims are killed; give namespace and answer."""
    for boundary in itertools.count(stride, stride):
        with containers(1) as (a,):
            if verb == "DEL":
                faulty.node.add("c", a, **keys)
            faulty.kill_at(boundary, *victims())
            answer = faulty.node.call(verb, "c", a, **keys)
            if faulty.was_spared():
                assert answer.status == 0
                assert boundary > LEAST_BOUNDARIES[verb]
                faulty.node.delete("c", a, **keys)
                return
            yield a, answer
            for _ in range(2):
                faulty.node.delete("c", a, **keys)
            assert faulty.traces(a) == {}


def assert_whole_or_nothing(
    faulty: FaultyNode, a: Netns, whole: Traces, verb: str, keys: dict[str, Any]
) -> bool:
    """Tell which of the two it is, once it is one, and repeat an ADD as a runtime might."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (found := faulty.traces(a)) not in ({}, whole):
        assert time.monotonic() < deadline_s, found
    if found and verb == "ADD":
        again = faulty.node.call("ADD", "c", a, **keys)
        assert again.body["code"] == 4
        assert "attached already" in again.body["msg"]
    elif verb == "ADD":
        faulty.node.add("c", a, **keys)
    if found and "isDefaultGateway" in keys:
        assert ping(a, GATEWAY, 1) == 1
    return bool(found)


def test_the_undo_of_an_add_that_fails_at_its_end(faulty: FaultyNode) -> None:
    plugin = faulty.node.directory / "late"
    plugin.write_text(LATE_REFUSAL)
    plugin.chmod(0o755)
    ipam = faulty.node.conf()["ipam"] | {"type": plugin.name}
    keys = {"ipam": ipam, "path": str(plugin.parent), "cniVersion": "1.0.0", "ipMasq": True}
    spared = False
    for boundary in itertools.count(1, 2):  # before each step
        with containers(1) as (a,):
            faulty.kill_at(boundary, faulty.pid, since="before ipam end")
            answer = faulty.node.call("ADD", "c", a, isDefaultGateway=True, **keys)
            spared = faulty.was_spared()
            assert answer.body["code"] == (REFUSED_LATE if spared else 11)
            if not spared:
                faulty.start()
            wait_until(lambda: faulty.traces(a) == {}, "all of it to be gone")
        if spared:
            assert boundary > LEAST_BOUNDARIES["undo"]
            return


def test_an_upgrade_whose_old_dataplane_nobody_ends(faulty: FaultyNode) -> None:
    old = faulty.dataplane_pid
    with containers(1) as (a,):
        faulty.node.add("c", a, isDefaultGateway=True)
        faulty.kill_at(SWAPPED, faulty.pid)
        with pytest.raises(AgentError):
            query(faulty.node.socket, "upgrade", timeout_s=60)
        faulty.start()
        assert faulty.dataplane_pid != old
        until_gone(old)
        assert ping(a, GATEWAY, 1) == 1
        assert faulty.node.status()["failures"] == {}
        faulty.node.delete("c", a)


def test_an_ipam_plugin_that_outlives_the_agent(faulty: FaultyNode) -> None:
    plugin = faulty.node.directory / "slow"
    plugin.write_text(SLOW_PLUGIN)
    plugin.chmod(0o755)
    ipam = faulty.node.conf()["ipam"] | {"type": "slow"}
    # A version that it speaks: else it would refuse the first ADD, and lease by the second one.
    keys = {"ipam": ipam, "path": str(plugin.parent), "cniVersion": "1.0.0"}
    with containers(1) as (a,), ThreadPoolExecutor(1) as pool:
        adding = pool.submit(faulty.node.call, "ADD", "c", a, **keys)
        wait_until(plugin.with_name("began").exists, "it to work")
        faulty.restart()
        assert adding.result().body["code"] == 11
        wait_until(plugin.with_name("leased").exists, "it to lease addresses after all")
        wait_until(lambda: faulty.traces(a) == {}, "all of it to be gone")


def test_an_add_need_not_wait_until_the_half_one_can_be_removed(faulty: FaultyNode) -> None:
    plugin = faulty.node.directory / "moved"
    plugin.symlink_to(f"{PLUGINS}/host-local")
    ipam = faulty.node.conf()["ipam"] | {"type": plugin.name}
    keys = {"ipam": ipam, "path": str(plugin.parent)}
    with containers(1) as (a,):
        faulty.kill_at(LEAST_BOUNDARIES["ADD"], faulty.pid)
        faulty.node.call("ADD", "c", a, **keys)
        plugin.rename(plugin.with_name("away"))
        faulty.start()
        wait_until(lambda: "'moved' is no exec" in str(faulty.node.status()["messages"]), "a note")
        assert faulty.traces(a)["records"] == [False]
        plugin.with_name("away").rename(plugin)
        faulty.node.add("c", a, **keys)
        assert faulty.traces(a)["records"] == [True]
        faulty.node.delete("c", a, **keys)
        assert faulty.traces(a) == {}
