"""A real agent with its dataplane in a host namespace, called through the real shim."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_virtio.ctl.agent_client import AgentError, query
from tests.smoke.netns import Netns, netns
from tests.smoke.ports import wait_until
from tests.unit.dataplane_process import CORES, REFUSED, ROOT, short_directory

SHIM = ROOT / "build" / "bin" / "cni-virtio"
PLUGINS = "/usr/lib/cni"
START_TIMEOUT_S = 90  # most of it is for emulated machines
HASTY = "tests.smoke.hasty_agent"


@dataclass(frozen=True)
class Answer:
    """What the shim said: exit status, and its stdout as JSON ({} if empty)."""

    status: int
    body: dict[str, Any]

    @property
    def address(self) -> str:
        """The first address, without prefix."""
        text: str = self.body["ips"][0]["address"]
        return text.split("/", maxsplit=1)[0]


@dataclass
class Node:
    """A machine with an agent. Everything of it lies in `directory`."""

    host: Netns
    directory: Path
    process: subprocess.Popen[str] | None = None
    backend: str = "auto"
    memory: str = "128Mi"
    more_config: str = ""
    """What else the agent's YAML says."""
    supervised_by: str = "agent"
    confinement: tuple[str, ...] = ()
    """What the agent is executed by, with fewer privileges."""
    more_agent_config: str = ""
    """What else the section `agent` of the agent's YAML says."""
    module: str = "cni_virtio"
    """What Python runs as the agent."""

    @property
    def socket(self) -> Path:
        return self.directory / "agent.sock"

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self, *options: str) -> None:
        """Start the agent and wait until it has a dataplane."""
        config = self.write_config()
        words = ["-m", self.module, "--config", str(config), *options]
        with (self.directory / "agent.log").open("a") as log:
            self.process = subprocess.Popen(
                self.command(*self.confinement, sys.executable, *words),
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stderr=log,
                text=True,
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the agent serves and has a dataplane."""
        wait_until(self._has_dataplane, "agent and dataplane", START_TIMEOUT_S)

    def write_config(self) -> Path:
        """Write the agent's YAML and give its path."""
        config = self.directory / "agent.yaml"
        config.write_text(self._config())
        return config

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the agent with a signal and give its exit status."""
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(START_TIMEOUT_S)

    def kill_dataplane(self) -> float:
        """Kill it, and give when (monotonic)."""
        pid = self.status()["dataplane"]["pid"]
        moment_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return moment_s

    def log(self) -> str:
        """Give what the agent and its dataplanes have said."""
        return (self.directory / "agent.log").read_text()

    def status(self) -> dict[str, Any]:
        return query(self.socket, "status")

    def ports(self) -> set[str]:
        return {port["spec"]["name"] for port in query(self.socket, "ports")["ports"]}

    def port(self, name: str) -> dict[str, Any]:
        port: dict[str, Any]
        (port,) = query(self.socket, "ports", {"name": name})["ports"]
        return port

    def networks(self) -> set[str]:
        return {each["spec"]["name"] for each in query(self.socket, "networks")["networks"]}

    def conf(self, **keys: Any) -> dict[str, Any]:
        """Make a netconf with host-local IPAM; a key that is None is left out."""
        conf = {
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "cni-virtio",
            "agentSocket": str(self.socket),
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.directory / "ipam"),
                "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd88::/64"}]],
            },
        }
        return {key: value for key, value in (conf | keys).items() if value is not None}

    def call(
        self,
        command: str,
        container: str = "",
        space: Netns | None = None,
        ifname: str = "eth0",
        **keys: Any,
    ) -> Answer:
        """Call the plugin as a runtime would; `keys` change the netconf, `args` is CNI_ARGS.

        `env` is more of the environment.
        """
        args, path = keys.pop("args", ""), keys.pop("path", PLUGINS)
        env = {"CNI_COMMAND": command, "CNI_PATH": path, "CNI_ARGS": args, **keys.pop("env", {})}
        if container:
            env |= {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname}
        if space:
            env["CNI_NETNS"] = str(space.path)
        stdin = json.dumps(self.conf(**keys))
        done = subprocess.run(
            [SHIM], env=env, input=stdin, capture_output=True, text=True, check=False, timeout=60
        )
        assert not done.stderr
        return Answer(done.returncode, json.loads(done.stdout or "{}"))

    def add(self, container: str, space: Netns, **keys: Any) -> Answer:
        """ADD, which must succeed."""
        answer = self.call("ADD", container, space, **keys)
        assert answer.status == 0, answer.body
        return answer

    def delete(self, container: str, space: Netns | None = None, **keys: Any) -> None:
        """DEL, which must succeed."""
        answer = self.call("DEL", container, space, **keys)
        assert (answer.status, answer.body) == (0, {})

    def command(self, *words: str) -> list[str]:
        """Give the command line that runs `words` on the machine."""
        return ["ip", "netns", "exec", self.host.name, *words]

    def left_over(self) -> dict[str, list[str]]:
        """What is there although nothing is attached: interfaces, records, sockets, leases."""
        links = self.host.run("ip", "-o", "link").splitlines()
        names = [line.split(": ")[1].split("@")[0] for line in links]
        leases = self.directory.glob("ipam/*/*")
        found = {
            "links": [name for name in names if name.startswith("cv-")],
            "records": _names(self.directory / "state" / "attachments"),
            "sockets": _names(self.directory / "vhost"),
            "leases": [path.name for path in leases if path.name[0] in "1f"],
        }
        return {what: names for what, names in found.items() if names}

    def _has_dataplane(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.directory / "agent.log").read_text()
        try:
            query(self.socket, "ports")
        except AgentError:
            return False
        return True

    def _config(self) -> str:
        return f"""
agent:
  socket: {self.socket}
  state_dir: {self.directory}/state
  socket_dir: {self.directory}/vhost
  {self.more_agent_config}
dataplane:
  socket: {self.directory}/dataplane.sock
  main_core: {CORES[0]}
  cores: [{CORES[-1]}]
  memory: {self.memory}
  backend: {self.backend}
  supervised_by: {self.supervised_by}
{self.more_config or "networks: [{name: narrow, mtu: 1400}]"}
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@contextmanager
def node(
    backend: str = "auto",
    memory: str = "128Mi",
    more_config: str = "",
    prepare: Callable[[Netns], None] = lambda _: None,
    within: str | None = None,
    module: str = "cni_virtio",
) -> Iterator[Node]:
    """A node with a running agent, which is ended and cleaned up after at the end.

    `prepare` gets the host before the agent starts on it; `module` is what runs as the agent.
    """
    with node_without_agent(backend, memory, more_config, within=within) as one:
        one.module = module
        prepare(one.host)
        one.start()
        yield one


@contextmanager
def node_without_agent(
    backend: str = "auto",
    memory: str = "128Mi",
    more_config: str = "",
    supervised_by: str = "agent",
    within: str | None = None,
) -> Iterator[Node]:
    """A node on which an agent can be started; what runs at the end is ended."""
    with short_directory(within) as directory, netns() as host:
        one = Node(host, directory, None, backend, memory, more_config, supervised_by)
        try:
            yield one
        finally:
            if one.process and one.process.poll() is None:
                one.end()
            if (directory / "agent.log").exists():
                sys.stderr.write((directory / "agent.log").read_text())
        for log in directory.glob("*.log"):
            assert REFUSED not in log.read_text()


@contextmanager
def containers(count: int) -> Iterator[list[Netns]]:
    """So many namespaces."""
    with ExitStack() as stack:
        yield [stack.enter_context(netns()) for _ in range(count)]


def valid(*containers: str) -> dict[str, Any]:
    """What GC is told: eth0 of these containers stays."""
    stay = [{"containerID": name, "ifname": "eth0"} for name in containers]
    return {"cni.dev/valid-attachments": stay}


def until_gone(pid: int, timeout_s: float = 10) -> None:
    """Wait for a process that is not a child to end."""
    deadline_s = time.monotonic() + timeout_s
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
