"""The agent is killed or replaced: not one packet is lost on any port, and no call is half done."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import PLUGINS, Node, containers, node
from tests.smoke.losses import echoes
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.testpmd import running_testpmd
from tests.smoke.traffic import ping

GATEWAY = "10.88.0.1"
KEYS: dict[str, Any] = {"isGateway": True}
SLOW_PLUGIN = f"""\
#!/bin/sh
[ $CNI_COMMAND = ADD ] && touch $CNI_PATH/began && sleep 0.5
exec {PLUGINS}/host-local
"""


@dataclass(frozen=True)
class Application:
    """A vhost-user interface, as testpmd needs it."""

    node: Node
    path: Path
    mac: str
    address: str

    def wait_ready(self) -> None:
        name = "pod:app/eth0"
        wait_until(lambda: self.node.port(name)["state"]["ready"], "the application is there")


@pytest.fixture(scope="module")
def here() -> Iterator[Node]:
    with node() as one:
        one.end(signal.SIGKILL)
        one.start("--keep-dataplane")
        yield one
        one.end(signal.SIGKILL)
        one.start()  # which ends its dataplane with itself


@pytest.fixture
def a(here: Node) -> Iterator[Netns]:
    with containers(1) as (one,):
        here.add("a", one, **KEYS)
        yield one
        here.delete("a", one, **KEYS)
        assert here.left_over() == {}


@pytest.fixture
def application(here: Node, a: Netns) -> Iterator[Application]:
    """testpmd that answers echo requests."""
    keys = {"interface": "vhost-user"}
    with containers(1) as (space,):
        answer = here.add("app", space, **keys)
        (interface,) = answer.body["interfaces"]
        port = Application(here, Path(interface["socketPath"]), interface["mac"], answer.address)
        with running_testpmd(port, "icmpecho"):
            assert ping(a, port.address) == 3
            yield port
        here.delete("app", space, **keys)


def test_nothing_is_lost_nor_half_done(here: Node, a: Netns, application: Application) -> None:
    instance = here.status()["dataplane"]["instance"]
    with ExitStack() as stack, containers(2) as (b, c), ThreadPoolExecutor(1) as pool:
        counts = [stack.enter_context(echoes(a, to)) for to in (GATEWAY, application.address)]
        wait_until(lambda: all(count.answered > 100 for count in counts), "traffic on both")

        here.end(signal.SIGKILL)
        assert here.call("ADD", "b", b).body["code"] == 11
        here.start("--keep-dataplane")

        slow = add_slow_plugin(here)
        adding = pool.submit(here.call, "ADD", "b", b, **slow)
        wait_until((here.directory / "began").exists, "the call is under way")
        here.end(signal.SIGTERM)
        assert adding.result().status == 0  # it was waited for
        assert here.call("ADD", "c", c).body["code"] == 11
        here.start("--keep-dataplane")

        assert here.status()["attachments"] == 3
        assert ping(b, application.address) == 3
        here.delete("b", b, **slow)
        here.add("c", c)
        here.delete("c", c)
    assert [count.lost for count in counts] == [0, 0]
    assert min(count.sent for count in counts) > 500
    assert here.status()["dataplane"]["instance"] == instance


def add_slow_plugin(here: Node) -> dict[str, Any]:
    """Give the netconf's keys for an IPAM plugin that takes its time."""
    plugin = here.directory / "slow"
    plugin.write_text(SLOW_PLUGIN)
    plugin.chmod(0o755)
    return {"ipam": here.conf()["ipam"] | {"type": "slow"}, "path": str(plugin.parent)}


@pytest.mark.parametrize("first", ["agent", "dataplane"])
def test_both_killed_in_either_order(here: Node, a: Netns, first: str) -> None:
    if first == "agent":
        dataplane = here.status()["dataplane"]["pid"]
        here.end(signal.SIGKILL)
        os.kill(dataplane, signal.SIGKILL)
    else:
        here.kill_dataplane()
        here.end(signal.SIGKILL)
    here.start("--keep-dataplane")
    wait_until(lambda: "pod:a/eth0" in here.ports(), "its port is back")
    assert ping(a, GATEWAY) == 3
    assert here.status()["failures"] == {}


def test_a_dataplane_that_comes_up_while_another_is_started(here: Node, a: Netns) -> None:
    """As one does whose agent was killed while it started."""
    pid, agent = here.status()["dataplane"]["pid"], here.process
    here.end(signal.SIGKILL)
    socket = here.directory / "dataplane.sock"
    hidden = socket.rename(here.directory / "hidden.sock")
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(here.start, "--keep-dataplane")
        wait_until(lambda: here.process is not agent and children(here), "it starts another")
        hidden.rename(socket)
        starting.result()
    wait_until(lambda: here.status()["dataplane"]["pid"] == pid, "it is taken up")
    assert ping(a, GATEWAY) == 3


def children(here: Node) -> str:
    assert here.process
    found = subprocess.run(
        ["pgrep", "-f", "-P", str(here.process.pid), "--", "-m dataplane --socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout
