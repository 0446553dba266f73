"""The verbs up to where the kernel, the disk and the dataplane come in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cni_virtio import draft, ports, verbs
from cni_virtio.chain import merged
from cni_virtio.config import AgentConfig, AgentSection, DataplaneSection
from cni_virtio.netconf import NetConf
from cni_virtio.node import as_cni_errors
from cni_virtio.results import Interface, Result
from cni_virtio.spec import CniError, Code, Request
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneUnavailable
from dataplane.wire import PortSpec, WireError


class Verbs:
    """Does of each call what needs no kernel and no dataplane."""

    def __init__(self) -> None:
        where = Path("/run/cni-virtio")
        agent = AgentSection(where / "agent.sock", where / "state", where / "vhost", "info")
        dataplane = DataplaneSection(where / "dataplane.sock", 0, (1,), 64 << 20, "poll", "auto")
        self.config = AgentConfig(where / "agent.yaml", agent, dataplane)
        self.wanted = Wanted(self.config)

    def run(self, request: Request, conf: NetConf) -> dict[str, Any] | None:
        with as_cni_errors():
            return self._run(request, conf)

    def _run(self, request: Request, conf: NetConf) -> dict[str, Any] | None:
        verbs._check_version(request, conf)
        if request.command == "GC":
            verbs._valid_attachments(conf)
        if request.command not in ("ADD", "DEL", "CHECK"):
            return None
        if request.command != "DEL":
            verbs._check_namespace(request)
        attachment = draft.draft(self.config, self.wanted, request, conf)
        json.dumps(asdict(attachment)).encode()  # as its record
        self._check_port(ports.container_port(attachment, self.config.backend))
        own = Result(
            (Interface(request.ifname, attachment.mac, 1500, request.netns),), dns=conf.dns
        )
        result = own if conf.prev_result is None else merged(conf.prev_result, own)
        return result.to_json(conf.cni_version) if request.command == "ADD" else None

    @staticmethod
    def _check_port(spec: PortSpec) -> None:
        try:
            PortSpec.from_json(json.loads(json.dumps(spec.to_json())))
        except WireError as error:
            raise CniError(Code.DATAPLANE, f"the dataplane refused: {error.message}") from error


class NoDataplane:
    """A dataplane's client that finds none."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(*_: object) -> None:
            raise DataplaneUnavailable(f"{name}: not there")

        return refuse
