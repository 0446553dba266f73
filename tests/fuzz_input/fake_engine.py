"""An engine that moves no packets: it knows what it was told, refuses what the real one would."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.binding import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dataplane.limits import Limits
    from dataplane.specs import PortSpec

MAX_PORTS = 8


class FakeEngine:
    """Takes the place of dataplane.binding.Engine. `failing` makes the next change fail."""

    max_ports = MAX_PORTS
    tsc_hz = 10**9

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.failing = 0
        self.networks: dict[str, str | None] = {}
        self.ports: dict[str, PortSpec] = {}
        self.limits: dict[str, Limits] = {}
        self.fds: dict[str, list[int]] = {}

    def state(self) -> tuple[object, ...]:
        """What it was told so far, to be compared."""
        held = {name: tuple(fds) for name, fds in self.fds.items()}
        return dict(self.networks), dict(self.ports), dict(self.limits), held

    def stop(self) -> None:
        """Give back what it holds."""
        for name in list(self.ports):
            self._close(name)

    def clear(self) -> None:
        """Delete everything."""
        self.stop()
        self.networks.clear()

    def hold(self, _on: bool) -> None:
        self._fail()

    def dpdk_version(self) -> str:
        return "none"

    def iova_mode(self) -> str:
        return "va"

    def frontends_are_guarded(self) -> bool:
        return True

    def memory(self) -> dict[str, Any]:
        return {"huge": False, "pools": {}}

    def workers(self) -> list[dict[str, Any]]:
        return []

    def fdb(self, network: str) -> list[dict[str, Any]]:
        self._known(network, self.networks)
        return []

    def network_add(self, name: str, mtu: int, uplink: str | None, vlan: int | None) -> None:
        self._fail()
        assert name not in self.networks
        if uplink is not None:
            self._known(uplink, self.ports)
        self.networks[name] = uplink

    def network_del(self, name: str) -> None:
        self._known(name, self.networks)
        if any(port.network == name for port in self.ports.values()):
            raise EngineError(errno.EBUSY, f"network {name} has ports")
        del self.networks[name]

    def port_add(self, spec: PortSpec, fds: Sequence[int]) -> None:
        self._fail()
        assert spec.name not in self.ports
        if len(self.ports) >= MAX_PORTS:
            raise EngineError(errno.ENOSPC, f"{MAX_PORTS} ports are in use")
        if spec.network is not None:
            self._known(spec.network, self.networks)
        if spec.vhost is not None and spec.vhost.mode == "client":
            self._make_socket(Path(spec.vhost.path))
        if spec.kind == "tap":
            assert len(fds) == spec.queues
            self.fds[spec.name] = list(fds)
        self.ports[spec.name] = spec
        self.limits[spec.name] = spec.limits

    def port_set_limits(self, name: str, limits: Limits) -> None:
        self._known(name, self.ports)
        self._fail()
        self.limits[name] = limits

    def port_del(self, name: str) -> None:
        self._known(name, self.ports)
        if name in self.networks.values():
            raise EngineError(errno.EBUSY, f"{name} is the uplink of a network")
        self._close(name)

    def port_state(self, name: str) -> dict[str, Any]:
        self._known(name, self.ports)
        return {"ready": False}

    def port_counters(self, name: str) -> dict[str, Any]:
        self._known(name, self.ports)
        return {"drops": {}}

    def _close(self, name: str) -> None:
        spec = self.ports.pop(name)
        del self.limits[name]
        for fd in self.fds.pop(name, []):
            os.close(fd)
        if spec.vhost is not None and spec.vhost.mode == "client":
            with suppress(FileNotFoundError):
                self._inside(Path(spec.vhost.path)).unlink()

    def _make_socket(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as made:
            try:
                made.bind(str(self._inside(path)))
            except OSError as error:
                raise EngineError(error.errno or errno.EIO, f"{path}: {error.strerror}") from None

    def _inside(self, path: Path) -> Path:
        if path.parent != self._folder:
            raise EngineError(errno.ENOENT, f"{path} is beyond the folder of this test")
        return path

    def _fail(self) -> None:
        if self.failing:
            number, self.failing = self.failing, 0
            raise EngineError(number, os.strerror(number))

    @staticmethod
    def _known(name: str, names: dict[str, Any]) -> None:
        if name not in names:
            raise EngineError(errno.ENOENT, f"there is no {name}")
