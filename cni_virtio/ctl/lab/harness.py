"""A lab: namespaces that are wired through the real plugin, exactly as a runtime would do it.

with Lab.from_file("lab.yaml") as lab:
    lab.exec("c1", ["ping", "-c", "1", lab.address("c2")], check=True)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from cni_virtio.ctl.agent_client import AgentError, query
from cni_virtio.ctl.lab import agent, apps, file, processes, store
from cni_virtio.ctl.lab.cni import PluginError
from cni_virtio.ctl.lab.config import agent_yaml, netconf
from cni_virtio.ctl.lab.errors import LabError
from cni_virtio.ctl.lab.journal import Journal
from cni_virtio.ctl.lab.lock import Lock
from cni_virtio.ctl.lab.mesh import Mesh, neighbours, ping_mesh
from cni_virtio.ctl.lab.neighbours import room_for, shortage
from cni_virtio.ctl.lab.paths import BASE, PLUGIN, LabPaths
from cni_virtio.ctl.lab.runtime import Runtime
from cni_virtio.ctl.lab.signals import uninterrupted
from cni_virtio.ctl.lab.spec import HOST, LabContainer, LabSpec
from cni_virtio.ctl.lab.topology import Topology
from cni_virtio.ctl.lab.wiring import connect_uplink
from cni_virtio.hugepages import Hugepages
from cni_virtio.spec import Code

_GRACE_S = 5.0
_AGENT_GRACE_S = 15.0


class Lab(Runtime):
    """One lab, made by `up` and removed by `down`. A context manager that does both.

    `root` is its folder (default: one under /run/cni-virtio-lab); `keep` leaves a failed `up` as
    it is. What went oddly on the way down is in `notes`.
    """

    def __init__(
        self, spec: LabSpec, root: Path | None = None, *, plugin: Path = PLUGIN, keep: bool = False
    ) -> None:
        super().__init__(spec.name, LabPaths((root or BASE / spec.name).absolute()), plugin)
        self.spec = spec
        self.notes: list[str] = []
        self._keep = keep
        self._journal = Journal(self.paths.journal)
        self._lock = Lock(self.paths.lock)
        self._children: list[subprocess.Popen[bytes]] = []

    @classmethod
    def from_file(cls, path: str | Path, root: Path | None = None, **options: Any) -> Lab:
        """Read a lab file. Raises ConfigError."""
        return cls(file.load(path), root, **options)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], root: Path | None = None, **options: Any) -> Lab:
        """Take what a lab file would hold. Raises ConfigError."""
        return cls(file.parse(data), root, **options)

    @classmethod
    def existing(cls, root: Path, **options: Any) -> Lab:
        """Take up a lab that another process made, even half of one. Raises LabError."""
        if not root.is_dir():
            raise LabError(f"there is no lab at {root}")
        lab = cls(store.load(root), root, **options)
        lab._load()
        return lab

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with uninterrupted():
            self.down()

    # --- up and down ------------------------------------------------------------------------------

    def up(self) -> None:
        """Make everything, or nothing: what fails is taken down again unless `keep`.

        Raises LabError, AgentStartError, PluginError, NetnsError or OSError.
        """
        self._check_possible()
        self.paths.create()
        self._lock.take()
        try:
            self._begin()
            for container in self.spec.containers:
                self.attach_container(container)
            for container in self.spec.containers:
                self._start_command(container)
        except BaseException:
            if not self._keep:
                with uninterrupted():
                    self.down()
            raise

    def _check_possible(self) -> None:
        if os.geteuid() != 0:
            raise LabError("a lab makes network namespaces: run it as root")
        if not self.plugin.binary.is_file():
            raise LabError(f"there is no plugin at {self.plugin.binary}: run ./dev setup")
        if self.paths.root.exists():
            remedy = f"remove it first: cni-virtioctl lab down {self.name}"
            raise LabError(f"lab {self.name} exists ({self.paths.root}); {remedy}")

    def _begin(self) -> None:
        store.save(self.spec, self.paths)
        self._journal.create_netns(self.netns(HOST))
        for uplink in self.spec.uplinks:
            self._journal.create_netns(self.netns(uplink.name))
            connect_uplink(self.spec, uplink, self.netns(HOST), self.netns(uplink.name))
        self.paths.agent_config.write_text(agent_yaml(self.spec, self.paths))
        self.start_agent()

    def down(self) -> None:
        """Remove everything that is there, whatever state it is in. Raises LabError if in use."""
        self._lock.take()
        containers = dict.fromkeys(attachment.container for attachment in self.attachments())
        self._end_all([self.netns_path(name) for name in containers])
        self._delete_all()
        self.stop_agent()
        self._end_all(self._journal.paths())
        for name in reversed(self._journal.names()):
            self._journal.delete_netns(name)
        Hugepages(self.paths.state).give_back()  # what an agent that was killed could not
        shutil.rmtree(self.paths.root, ignore_errors=True)
        self._lock.release()
        with contextlib.suppress(OSError):  # other labs are still there
            BASE.rmdir()

    def _delete_all(self) -> None:
        """DEL what can be DELed; the rest goes with its namespace, whose taps go with it."""
        for attachment in reversed(self.attachments()):
            try:
                self.delete(attachment)
            except PluginError as error:
                self.notes.append(str(error))
                if error.code == Code.TRY_AGAIN_LATER:  # no agent: it would be said of each
                    return
            except (OSError, subprocess.TimeoutExpired) as error:
                self.notes.append(f"DEL of {attachment.who}: {error}")

    # --- agent ------------------------------------------------------------------------------------

    def start_agent(self) -> None:
        """Start the agent and wait for its dataplane. Raises AgentStartError with its words."""
        self._children.append(agent.start(self.paths, self.netns(HOST)))

    def stop_agent(self) -> None:
        """End the agent, its dataplane, and whatever else runs in the host namespace."""
        host = self.netns_path(HOST)
        with contextlib.suppress(AgentError, KeyError, TypeError):
            # The agent first: it ends its dataplane in order, and gives hugepages back.
            self._end([self.agent_pid], [host], _AGENT_GRACE_S)
        self._end_all([host])

    def status(self) -> dict[str, Any]:
        """Return the agent's status. Raises AgentError."""
        return agent.status(self.paths)

    def query(self, op: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask the agent what `cni-virtioctl` asks it. Raises AgentError."""
        return query(self.paths.agent_socket, op, args)

    @property
    def agent_pid(self) -> int:
        """The agent's process. Raises AgentError."""
        return int(self.status()["pid"])

    @property
    def dataplane_pid(self) -> int:
        """The dataplane's process. Raises AgentError."""
        return int(self.status()["dataplane"]["pid"])

    # --- containers -------------------------------------------------------------------------------

    def add_container(self, container: LabContainer | Mapping[str, Any]) -> LabContainer:
        """Make one more container while the lab runs, as the lab file would have it.

        Raises ConfigError for a bad description, PluginError if an ADD fails.
        """
        if not isinstance(container, LabContainer):
            container = file.parse_container(container, self.spec)
        if any(other.name == container.name for other in self.spec.containers):
            raise LabError(f"container {container.name} exists already")
        self._set_containers((*self.spec.containers, container))
        self.attach_container(container)
        self._start_command(container)
        return container

    def attach_container(self, container: LabContainer) -> None:
        """Make a declared container's namespace, and ADD its interfaces. Raises PluginError."""
        self._journal.create_netns(self.netns(container.name))
        for interface in container.interfaces:
            self.add(
                container.name,
                netconf(self.spec, self.paths, container, interface),
                interface.ifname,
            )

    def remove_container(self, name: str) -> None:
        """Stop what runs in a container, DEL its interfaces, remove its namespace."""
        self.stop_app(name)
        for attachment in reversed(self.attachments(name)):
            self.delete(attachment)
        self._journal.delete_netns(self.netns(name))
        self._set_containers(tuple(c for c in self.spec.containers if c.name != name))

    def container(self, name: str) -> LabContainer:
        """Return a container's description. Raises LabError if there is none."""
        for container in self.spec.containers:
            if container.name == name:
                return container
        have = ", ".join(container.name for container in self.spec.containers) or "none"
        raise LabError(f"there is no container {name} in lab {self.name}; there are: {have}")

    def _set_containers(self, containers: tuple[LabContainer, ...]) -> None:
        self.spec = replace(self.spec, containers=containers)
        store.save(self.spec, self.paths)

    # --- commands and applications ----------------------------------------------------------------

    def exec(
        self, name: str, argv: Sequence[str], *, check: bool = False, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command in the namespace of a container, an uplink's outside or `host`.

        Options are those of `subprocess.run`.
        """
        return subprocess.run(self.command(name, argv), check=check, **options)

    def popen(self, name: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command there. Options are those of `subprocess.Popen`; `down` ends it."""
        return subprocess.Popen(self.command(name, argv), **options)

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` there, with the /sys of that namespace."""
        return ["ip", "netns", "exec", self.netns(name), *argv]

    def start_app(self, name: str, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a container's application: its own, or another `command` with placeholders.

        Raises LabError if there is no such program.
        """
        argv = self._filled(name, command or self.container(name).command)
        first = self.attachment(name)
        if first.is_server and not self.app_pids(name):
            # A server that was killed leaves its socket, and the next one could not bind it.
            Path(first.socket).unlink(missing_ok=True)
        try:
            process = apps.start(argv, name, self.netns_path(name), self.paths)
        except FileNotFoundError as error:
            raise LabError(f"application of {name}: {error.filename} is not installed") from None
        self._children.append(process)
        return process

    def stop_app(self, name: str) -> None:
        """End whatever runs in a container."""
        self._end_all([self.netns_path(name)])

    def app_pids(self, name: str) -> list[int]:
        """Return the processes in a container."""
        return processes.inside([self.netns_path(name)])

    def app_core(self, name: str) -> int:
        """Return the core that a container's application may poll on."""
        cores = apps.app_cores(self.spec.dataplane)
        users = [c.name for c in self.spec.containers if c.kind == "vhost-user"]
        return cores[users.index(name) % len(cores)]

    def _start_command(self, container: LabContainer) -> None:
        if container.command:
            self.start_app(container.name)

    def _filled(self, name: str, command: Sequence[str]) -> list[str]:
        names = dict.fromkeys(attachment.container for attachment in self.attachments())
        peers = {peer: apps.Peer.of(peer, self.attachment(peer)) for peer in names}
        core = self.app_core(name)
        return apps.fill(command, name, self.attachment(name), peers, self.paths, core)

    # --- pinging ----------------------------------------------------------------------------------

    def ping_matrix(
        self, version: int = 4, timeout_s: float = 3.0, *, make_room: bool = False
    ) -> Mesh:
        """Ping from every namespace to every address of one IP version on the same network.

        More than some 30 containers exceed the kernel's limit of neighbours, which is one for all
        namespaces; `make_room` raises it for the time being, else the mesh says what to do.
        """
        hosts = Topology(self.spec, self, version).hosts()
        with room_for(version, neighbours(hosts) if make_room else 0):
            mesh = ping_mesh(hosts, timeout_s)
            hint = shortage(version, neighbours(hosts)) if mesh.failed else ""
        return replace(mesh, hint=hint)

    # --- processes --------------------------------------------------------------------------------

    def _end_all(self, where: Sequence[Path]) -> None:
        self._end(processes.inside(where), where, _GRACE_S)

    def _end(self, pids: Sequence[int], where: Sequence[Path], grace_s: float) -> None:
        names = {pid: processes.command_line(pid) for pid in pids}
        for pid in processes.end(pids, grace_s, where):
            self.notes.append(f"pid {pid} did not end in {grace_s:.0f} s, killed: {names[pid]}")
        for child in self._children:
            child.poll()  # else what has ended stays a zombie
