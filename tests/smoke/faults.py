"""A node whose agent, dataplane or both are killed at a chosen boundary between a call's steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.smoke.agent import Node, node_without_agent, until_gone
from tests.smoke.faulty_agent import FAULT_FILE
from tests.smoke.netns import Netns
from tests.unit.dataplane_process import ROOT

Traces = dict[str, Any]
"""What there is of attachments. Of addresses only the number: each ADD gets others."""


@dataclass
class FaultyNode:
    """A node and what starts its agents. Everything is as in `Node`, but for the fault points."""

    node: Node
    starter: subprocess.Popen[str]
    pid: int = 0

    @property
    def dataplane_pid(self) -> int:
        pid: int = self.node.status()["dataplane"]["pid"]
        return pid

    @property
    def info_file(self) -> Path:
        return self.node.directory / "info" / "eth0.json"

    def start(self) -> None:
        """Start an agent and wait until it has a dataplane."""
        assert self.starter.stdin
        assert self.starter.stdout
        self.starter.stdin.write("\n")
        self.starter.stdin.flush()
        self.pid = int(self.starter.stdout.readline())
        self.node.wait_ready()

    def restart(self) -> None:
        """Put another agent in the place of this one; the dataplane goes on."""
        os.kill(self.pid, signal.SIGKILL)
        until_gone(self.pid)
        self.start()

    def end(self) -> None:
        """End the agent, and with it the dataplane."""
        os.kill(self.pid, signal.SIGTERM)
        until_gone(self.pid)

    def kill_at(self, boundary: int, *pids: int, since: str = "") -> None:
        """Have processes killed at a boundary of the next call.

        It is counted from the beginning, or from another that is named as `before ipam`.
        """
        self._fault.write_text(f"{boundary} {' '.join(map(str, pids))}\n{since}")

    def was_spared(self) -> bool:
        """Tell whether the call had fewer boundaries, and call the fault off."""
        spared = self._fault.exists()
        self._fault.unlink(missing_ok=True)
        return spared

    def traces(self, space: Netns) -> Traces:
        """Give all that is there of attachments on the node and in the namespace."""
        left = self.node.left_over()
        records = self.node.directory.glob("state/attachments/*")
        found = left | {
            "records": [_is_whole(path) for path in records],
            "sockets": [path.name for path in self.node.directory.glob("vhost/*/*")],
            "folders": left.get("sockets", []),
            "leases": len(left.get("leases", [])),
            "ports": sorted(self.node.ports()),
            "networks": sorted(self.node.networks() - {"narrow"}),
            "rules": self.node.host.run("nft", "list", "ruleset").count("\n"),
            "device info": [path.name for path in self.info_file.parent.glob("*")],
            "in its namespace": _configured(space),
        }
        return {what: items for what, items in found.items() if items}

    @property
    def _fault(self) -> Path:
        return self.node.directory / "fault"


def _is_whole(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_text())["result"])
    except FileNotFoundError:
        return False


def _configured(space: Netns) -> dict[str, int]:
    """How many addresses the interfaces of a container have."""
    found = json.loads(space.run("ip", "-j", "addr", "show", "scope", "global"))
    return {each["ifname"]: len(each["addr_info"]) for each in found if each}


@contextmanager
def faulty_node() -> Iterator[FaultyNode]:
    """A node with a running agent that has fault points."""
    with node_without_agent() as node:
        words = ("-m", "tests.smoke.faulty_agent", "--config", str(node.write_config()))
        environment = {"PYTHONPATH": str(ROOT), FAULT_FILE: str(node.directory / "fault")}
        with (node.directory / "agent.log").open("a") as log:
            node.process = subprocess.Popen(
                node.command(sys.executable, *words),
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        with node.process as starter:
            faulty = FaultyNode(node, starter)
            faulty.start()
            yield faulty
            faulty.end()
