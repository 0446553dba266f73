"""What operators ask the agent: status, ports, networks, what the dataplane counts, and limits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from cni_virtio import __version__, links
from cni_virtio.bandwidth import bandwidth
from cni_virtio.limiting import LimitingError, find, set_limits
from cni_virtio.netns import NetnsError
from cni_virtio.node import Node
from cni_virtio.ports import pod_port_name
from cni_virtio.state import Attachment
from cni_virtio.supervisor import Supervisor
from cni_virtio.timings import Timings
from cni_virtio.turns import Turns
from cni_virtio.upgrade import UpgradeError
from cni_virtio.vhost_threads import attribute, is_vhost_net
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.wire import JsonObject


class OperatorError(Exception):
    """A request that is refused; the text says why."""


class Operations:
    """Answers operators' requests. Only `bandwidth` and `upgrade` change anything."""

    def __init__(
        self,
        node: Node,
        supervisor: Supervisor,
        client: DataplaneClient,
        messages: Callable[[], list[str]],
        turns: Turns,
        timings: Timings,
    ) -> None:
        self._node = node
        self._supervisor = supervisor
        self._client = client
        self._messages = messages
        self._turns = turns
        self._started_s = time.monotonic()
        self._operations: dict[str, Callable[[JsonObject], JsonObject]] = {
            "status": self._status,
            "ports": self._ports,
            "networks": self._networks,
            "bandwidth": self._bandwidth,
            "upgrade": lambda _: self._supervisor.upgrade(),
            "fdb": lambda args: self._client.fdb(str(args.get("network", ""))),
            "workers": lambda _: self._client.workers(),
            "timings": lambda _: {"timings": timings.shown()},
        }

    def run(self, body: bytes) -> JsonObject:
        """Carry out `{"op", "args"}`. Raises OperatorError."""
        try:
            message = json.loads(body)
            op, args = message["op"], message.get("args") or {}
            known = self._operations[op]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            have = ", ".join(self._operations)
            raise OperatorError(f'not of the form {{"op": …, "args": …}} with op {have}') from None
        if not isinstance(args, dict):
            raise OperatorError("args: must be an object")
        try:
            return known(args)
        except (DataplaneUnavailable, LimitingError, UpgradeError) as error:
            raise OperatorError(str(error)) from error
        except DataplaneError as error:
            raise OperatorError(error.message) from error

    def _status(self, _: JsonObject) -> JsonObject:
        node = self._node
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "config_file": str(node.config.file),
            "backend": node.config.backend.name,
            "backend_reason": node.config.backend.reason,
            "dataplane": self._supervisor.status(),
            "attachments": len(node.wanted.all()),
            "networks": len(node.wanted.networks()),
            "failures": node.converger.failures,
            "messages": [*self._messages(), *self._supervisor.messages()],
        }

    def _ports(self, args: JsonObject) -> JsonObject:
        name = args.get("name")
        found = self._client.ports(None if name is None else str(name))["ports"]
        if any(is_vhost_net(port["spec"]) for port in found):
            threads = self._vhost_threads()
            for port in found:
                if is_vhost_net(port["spec"]):
                    port["state"]["vhost_threads"] = threads.get(port["spec"]["name"], [])
        for port in found:
            if port["spec"]["role"] == "exception":
                # DPDK's end is always up; the kernel's has the carrier of the uplink.
                ifname = port["spec"]["labels"]["ifname"]
                port["state"]["link_up"] = _has_carrier(ifname)
        shown = [port | {"attachment": self._attachment(port)} for port in found]
        return {"ports": shown, "missing": self._missing(found) if name is None else []}

    def _missing(self, found: list[JsonObject]) -> list[JsonObject]:
        """Return the ports that are wanted and not there, with the reason as far as it is known."""
        there = {port["spec"]["name"] for port in found}
        wanted, failures = self._node.wanted.everything().ports, self._node.converger.failures
        missing = [
            {"spec": spec.to_json(), "failure": failures.get(name, "is being added")}
            for name, spec in wanted.items()
            if name not in there
        ]
        return [port | {"attachment": self._attachment(port)} for port in missing]

    def _vhost_threads(self) -> dict[str, list[int]]:
        pid = self._supervisor.status()["pid"]
        if pid is None:
            return {}
        with self._node.converger.paused():  # else ports and threads might not match
            return attribute(self._client.ports()["ports"], pid)

    def _networks(self, _: JsonObject) -> JsonObject:
        found = self._client.networks()["networks"]
        declared = self._node.wanted.declared
        return {
            "networks": [
                each | {"declared": declared(each["spec"]["name"]) is not None} for each in found
            ]
        }

    def _bandwidth(self, args: JsonObject) -> JsonObject:
        attachment, held_up = find(self._node, str(args.get("port", ""))), ""
        if "bandwidth" in args:
            attachment, held_up = set_limits(self._node, self._turns, attachment, args["bandwidth"])
        return {
            "port": pod_port_name(*attachment.key),
            "bandwidth": bandwidth(attachment.limits),
            "held_up": held_up,
        }

    def _attachment(self, port: JsonObject) -> JsonObject | None:
        attachment = self._node.wanted.by_port(port["spec"]["name"])
        return None if attachment is None else _shown(attachment)


def _has_carrier(ifname: str) -> bool:
    try:
        return bool(links.has_carrier(None, ifname))
    except NetnsError:
        return False


def _shown(attachment: Attachment) -> JsonObject:
    shown: dict[str, Any] = {
        "name": attachment.name,
        "network": attachment.network,
        "container_id": attachment.container_id,
        "ifname": attachment.ifname,
        "netns": attachment.netns,
        "interface": attachment.interface,
        "ips": list(attachment.ips),
        "socket_path": attachment.socket_path,
        "pod": attachment.labels.get("pod"),
        "namespace": attachment.labels.get("namespace"),
    }
    return shown
