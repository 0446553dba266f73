"""Sandboxes that go without a DEL: all of theirs is removed, and nothing of others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.smoke.agent import HASTY, PLUGINS, Node, containers, node
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

PATIENCE_S = 30


@pytest.fixture
def one() -> Iterator[Node]:
    with node(module=HASTY) as one:
        yield one


@pytest.fixture
def spaces() -> Iterator[list[Netns]]:
    with containers(5) as spaces:
        yield spaces


def ports(one: Node) -> set[str]:
    """The container ids that have ports."""
    return {name.removeprefix("pod:").split("/")[0] for name in one.ports() if "pod:" in name}


def leases(one: Node) -> set[str]:
    """The container ids that hold an address."""
    files = [path for path in one.directory.glob("ipam/pods/*") if path.name[0] in "1f"]
    return {path.read_text().split()[0] for path in files}


def records(one: Node) -> set[str]:
    return {path.name.split("@")[1] for path in (one.directory / "state/attachments").iterdir()}


def log(one: Node) -> str:
    return (one.directory / "agent.log").read_text()


def end_namespace(space: Netns) -> None:
    """Remove it behind the agent's back; another one takes its name."""
    subprocess.run(["ip", "netns", "del", space.name], check=True)
    subprocess.run(["ip", "netns", "add", space.name], check=True)


def of(one: Node, *names: str) -> bool:
    """Tell whether exactly these containers have ports, records and addresses."""
    return ports(one) == records(one) == leases(one) == set(names)


def test_everything_of_a_gone_sandbox_goes_and_only_that(one: Node, spaces: list[Netns]) -> None:
    kernel, application, running, alive, stuck = spaces
    plugins = one.directory / "bin"
    plugins.mkdir()
    plugin = plugins / "host-local"
    plugin.symlink_to(f"{PLUGINS}/host-local")
    one.add("kernel", kernel, isGateway=True)
    one.add("application", application, interface="vhost-user")
    one.add("running", running, isGateway=True)
    there = one.add("alive", alive, isGateway=True)
    one.add("stuck", stuck, path=str(plugins))
    plugin.rename(plugins / "away")  # its address cannot be freed
    socket = Path(one.directory, "vhost", "application", "eth0.sock")
    assert socket.is_socket()

    with running.running("sleep", "60") as process:
        for space in (kernel, application, running, stuck):
            end_namespace(space)
        wait_until(lambda: ports(one) == {"running", "alive"}, "two left", PATIENCE_S)
        assert records(one) == {"running", "alive", "stuck"}
        wait_until(lambda: len(leases(one)) == 3, "two addresses to be freed", PATIENCE_S)
        wait_until(lambda: "cannot remove 10.88.0.6/16" in log(one), "a warning", PATIENCE_S)
        (plugins / "away").rename(plugin)
        assert not socket.parent.exists()
        assert one.host.run("ip", "-br", "link", "show", "cv-pods")
        assert ping(alive, "10.88.0.1")
        process.kill()
        process.wait()
        wait_until(lambda: of(one, "alive"), "one left", PATIENCE_S)

    assert f"kernel/eth0: its sandbox {kernel.path} is gone and no DEL came" in log(one)
    wait_until(lambda: "4 attachments" in "".join(one.status()["messages"]), "four are counted")
    assert one.call("CHECK", "alive", alive, isGateway=True, prevResult=there.body).status == 0
    one.delete("kernel")  # a late one
    one.delete("alive", alive, isGateway=True)
    assert one.left_over() == {}


def test_those_that_went_while_no_agent_ran(one: Node, spaces: list[Netns]) -> None:
    one.add("c1", spaces[0])
    one.add("c2", spaces[1])
    one.end()
    end_namespace(spaces[0])
    one.start()
    wait_until(lambda: of(one, "c2"), "one left", PATIENCE_S)
    one.delete("c2", spaces[1])
