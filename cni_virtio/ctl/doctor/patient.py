"""What the checks look at: configuration, agent, network files; each read once, when asked for."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cni_virtio import netns
from cni_virtio.__main__ import DEFAULT_CONFIG
from cni_virtio.config import AgentConfig, ConfigError, read
from cni_virtio.config_checks import FaultError, Machine, machine_faults, parse_cores
from cni_virtio.ctl.agent_client import DEFAULT_SOCKET, AgentError, query
from cni_virtio.ctl.doctor.finding import NotCheckedError
from cni_virtio.ctl.doctor.networks import NetworkFile, network_files
from cni_virtio.netns import NetnsError
from cni_virtio.schema import dotted
from cni_virtio.state import Attachment
from dataplane.unix_socket import peer_credentials

_AGENT_PATIENCE_S: Final = 1.0
_ALLOWED: Final = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)

Placed = Callable[[FaultError], str]


@dataclass
class Patient:
    """A node. Where no file or socket is named, the agent's own or the default is taken."""

    config_file: Path | None = None
    socket: str | None = None
    cni_conf_dir: Path = Path("/etc/cni/net.d")
    cni_bin_dirs: tuple[Path, ...] = (Path("/opt/cni/bin"),)
    here: Machine = field(default_factory=Machine.here)

    # --- configuration ----------------------------------------------------------------------------

    @cached_property
    def file(self) -> Path:
        """The agent's YAML; /dev/null, which is every default, if there is none."""
        if self.config_file is not None:
            return self.config_file
        told = self._told_file()
        return next((each for each in (told, DEFAULT_CONFIG) if each.exists()), Path(os.devnull))

    @property
    def config(self) -> AgentConfig:
        """The agent's configuration. Raises NotCheckedError if it is unusable by itself."""
        return self._usable[0]

    @property
    def config_error(self) -> str:
        """Why the configuration is unusable by itself; "" if it is not."""
        return str(self._outcome) if isinstance(self._outcome, ConfigError) else ""

    def faults(self, *sections: str) -> list[str]:
        """Say what of the configuration's sections this machine cannot give, with file and line."""
        config, placed = self._usable
        with self.in_agents_netns():  # interfaces are looked for
            found = list(machine_faults(config, self.machine))
        return [placed(fault) for fault in found if dotted(fault.path).startswith(sections)]

    def placed(self, fault: FaultError) -> str:
        """Write a fault with the configuration's file and line."""
        return self._usable[1](fault)

    @property
    def _usable(self) -> tuple[AgentConfig, Placed]:
        if isinstance(self._outcome, ConfigError):
            raise NotCheckedError("the agent's YAML is unusable")
        return self._outcome

    @cached_property
    def _outcome(self) -> tuple[AgentConfig, Placed] | ConfigError:
        try:
            return read(self.file, self.here)
        except ConfigError as error:
            return error

    def _told_file(self) -> Path:
        with contextlib.suppress(AgentError):
            return Path(query(self.socket or DEFAULT_SOCKET, "status", None, 0.5)["config_file"])
        return Path(os.devnull)

    # --- agent ------------------------------------------------------------------------------------

    @cached_property
    def agent_socket(self) -> str:
        """Where the agent should be; if the YAML is unusable, where our networks look for it."""
        if self.socket is not None:
            return self.socket
        if not self.config_error:
            return str(self.config.agent.socket)
        confs = [conf for file in self.network_files for conf in file.ours]
        return next(
            (str(each["agentSocket"]) for each in confs if "agentSocket" in each), DEFAULT_SOCKET
        )

    @cached_property
    def agent_error(self) -> str:
        """Why the agent gives no answer; "" if it does."""
        return self._answer[1]

    @cached_property
    def status(self) -> dict[str, Any]:
        """The agent's answer to `status`. Raises NotCheckedError if there is none."""
        answer, error = self._answer
        if error:
            raise NotCheckedError("the agent does not answer")
        return answer

    @cached_property
    def dataplane(self) -> dict[str, Any]:
        """What the agent knows of the dataplane. Raises NotCheckedError if it does not run."""
        found: dict[str, Any] = self.status.get("dataplane") or {}
        if not found.get("running"):
            raise NotCheckedError("the dataplane does not run")
        return found

    @cached_property
    def agent_pid(self) -> int | None:
        """The agent's pid; None without one."""
        return None if self.agent_error else _pid_at(self.agent_socket)

    @cached_property
    def dataplane_pid(self) -> int | None:
        """The dataplane's pid. Raises NotCheckedError if it does not run."""
        return _pid_at(str(self.config.dataplane.socket)) if self.dataplane else None

    @property
    def own_pids(self) -> set[int]:
        """The pids of agent and dataplane, of those that run, whatever they answer."""
        sockets = (self.agent_socket, str(self.config.dataplane.socket))
        return {pid for pid in map(_pid_at, sockets) if pid is not None}

    @property
    def agent_supervises(self) -> bool:
        """Whether it is the agent that starts the dataplane, as far as the YAML can be read."""
        return bool(self.config_error) or self.config.dataplane.supervised_by == "agent"

    @property
    def restart_dataplane(self) -> str:
        """How to have the dataplane restarted: with the agent alone, it is kept or another's."""
        if not self.agent_supervises:
            return "restart cni-virtio-dataplane (its unit or container)"
        with contextlib.suppress(NotCheckedError):
            if self.dataplane_pid:
                return "run `cni-virtioctl upgrade`: a new one takes its place"
        return "restart cni-virtio-agent"

    @cached_property
    def agent_uid(self) -> int:
        """The user that the agent runs as; root if it does not run."""
        with contextlib.suppress(OSError):
            if self.agent_pid is not None:
                return Path(f"/proc/{self.agent_pid}").stat().st_uid
        return 0

    @contextlib.contextmanager
    def in_agents_netns(self) -> Iterator[None]:
        """Have the body look at the agent's network namespace, or at ours if it does not run."""
        fd = None
        with contextlib.suppress(NetnsError):
            if self.agent_pid is not None:
                fd = netns.open_netns(f"/proc/{self.agent_pid}/ns/net")
        same = fd is None or netns.identity(fd) == netns.own_identity()
        try:
            with netns.entered(None if same else fd):
                yield
        finally:
            if fd is not None:
                os.close(fd)

    @cached_property
    def machine(self) -> Machine:
        """This machine as the agent may use it."""
        with contextlib.suppress(OSError, ValueError):
            if self.agent_pid is not None:
                text = Path(f"/proc/{self.agent_pid}/status").read_text()
                if found := _ALLOWED.search(text):
                    return replace(self.here, allowed_cores=frozenset(parse_cores(found[1])))
        return self.here

    @cached_property
    def _answer(self) -> tuple[dict[str, Any], str]:
        try:
            return query(self.agent_socket, "status", None, _AGENT_PATIENCE_S), ""
        except AgentError as error:
            return {}, str(error)

    # --- files ------------------------------------------------------------------------------------

    @cached_property
    def network_files(self) -> list[NetworkFile]:
        """The files in the CNI configuration folder, in the order that runtimes read them."""
        return network_files(self.cni_conf_dir)

    @cached_property
    def attachments(self) -> list[Attachment]:
        """The agent's records that can be read. Raises NotCheckedError, PermissionError."""
        import json

        found = []
        folder = self.config.agent.state_dir / "attachments"
        for path in sorted(folder.iterdir()) if folder.exists() else []:
            with contextlib.suppress(FileNotFoundError, ValueError):
                found.append(Attachment.from_json(json.loads(path.read_bytes())))
        return found

    def plugin(self, name: str) -> Path | None:
        """Find a CNI plugin's file as a runtime does; None if there is none."""
        places = [folder / name for folder in self.cni_bin_dirs]
        return next((place for place in places if place.is_file()), None)


def _pid_at(path: str) -> int | None:
    """Return the pid of who serves a socket, as seen from here, also where it is in a container."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_AGENT_PATIENCE_S)
        try:
            probe.connect(path)
        except OSError:
            return None
        return peer_credentials(probe)[0] or None
