"""The agent: what it is made of, how it starts and stops, and how each request is answered."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import logging
import os
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from cni_virtio import interfaces, ports
from cni_virtio.attach import Node, release
from cni_virtio.config import AgentConfig
from cni_virtio.converge import Converger
from cni_virtio.dataplane_process import DataplaneProcess
from cni_virtio.framing import CNI_MAGIC, Frame, FrameError, Reply
from cni_virtio.gateway import Gateways
from cni_virtio.hugepages import Hugepages
from cni_virtio.link_follow import LinkFollower
from cni_virtio.listener import Handlers, Listener, ListenError
from cni_virtio.netconf import NetConf
from cni_virtio.netconf import parse as parse_netconf
from cni_virtio.operations import Operations, OperatorError
from cni_virtio.spec import SUPPORTED_VERSIONS, CniError, Code, Request
from cni_virtio.state import Attachment, Key, StateDir, StateError
from cni_virtio.supervisor import Callbacks, Supervisor
from cni_virtio.twins import Twins
from cni_virtio.uplinks import Shortcomings, set_up_devices
from cni_virtio.verbs import Verbs, reply_version
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.wire import JsonObject, PortSpec

log = logging.getLogger(__name__)


class AgentError(Exception):
    """The agent cannot start; the text says why and what to do."""


class Agent:
    """Everything of the agent, from `start` to `stop`."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        state = StateDir(config.agent.state_dir)
        self._lock_fd = _only_agent(config.agent.state_dir)
        wanted = Wanted(config)
        gateways = Gateways()
        self._client = DataplaneClient(str(config.dataplane.socket))
        converger = Converger(self._client, wanted, self._open_port, self._uplink_seen)
        self._node = Node(config, state, wanted, gateways, converger)
        self._twins = Twins(config.agent.state_dir)
        self._verbs = Verbs(self._node)
        self._supervisor = Supervisor(
            config,
            self._client,
            Hugepages(config.agent.state_dir),
            Callbacks(online=self._online, offline=converger.offline),
        )
        self._device_notes: list[str] = []
        self._shortcomings = Shortcomings()
        self._operations = Operations(self._node, self._supervisor, self._client, self._messages)
        self._first_contact = True
        self._dropped: set[Key] = set()
        self._stopping = threading.Event()
        follower = LinkFollower(config.uplinks, converger.known_port)
        self._keepers = [
            threading.Thread(target=each.run, args=(self._stopping,), name=name)
            for name, each in (("converger", converger), ("links", follower))
        ]
        handlers = Handlers(self._serve, self._unreadable, self._busy)
        self._listener = Listener(config.agent.socket, handlers)

    def start(self) -> None:
        """Take up what is on record, get a dataplane, and serve."""
        self._load_state()
        self._supervisor.start()
        for keeper in self._keepers:
            keeper.start()
        self._listener.start()
        # What is here by now stays; a full collection that walks over it costs an ADD 20 ms.
        gc.collect()
        gc.freeze()
        log.info("serving %s, pid %d", self._config.agent.socket, os.getpid())

    def stop(self, *, keep_dataplane: bool) -> None:
        """Let the calls under way end, then end; interfaces of containers stay."""
        self._listener.close()
        self._stopping.set()
        self._node.converger.wake()
        for keeper in self._keepers:
            keeper.join()
        self._supervisor.stop(keep=keep_dataplane)
        self._client.close()
        with contextlib.suppress(OSError):
            self._config.agent.socket_dir.rmdir()  # only if no container is left
        os.close(self._lock_fd)

    # --- state ------------------------------------------------------------------------------------

    def _load_state(self) -> None:
        attachments, quarantined = self._node.state.load_all()
        for each in quarantined:
            log.error("state: a record was unreadable and lies in %s now: %s", *each)
        for attachment in attachments:
            if attachment.result:
                self._node.wanted.add(attachment)
            else:  # its ADD did not come to its end, and nobody was told that it had
                self._drop(attachment)
        log.info("state: %d attachments", len(attachments))

    def _drop(self, attachment: Attachment) -> None:
        log.warning("%s/%s: half attached, removed", *attachment.key)
        self._dropped.add(attachment.key)
        try:
            release(self._node, attachment)
        except (CniError, OSError) as error:
            log.warning("%s/%s: %s", *attachment.key, error)

    def _online(self, process: DataplaneProcess) -> None:
        self._device_notes = set_up_devices(self._config.uplinks)
        for note in self._device_notes:
            log.warning("%s", note)
        if self._first_contact and process.adopted:
            self._adopt()
        self._first_contact = False
        self._node.converger.online()
        self._twins.prune(self._config.uplinks)

    def _adopt(self) -> None:
        """Take up the containers of a running dataplane that are on no record, if they live."""
        try:
            found = self._node.converger.found()
        except (DataplaneError, DataplaneUnavailable) as error:
            log.warning("cannot see what the running dataplane has: %s", error)
            return
        for spec in found:
            attachment = ports.attachment_of(spec)
            if attachment is None or attachment.key in self._dropped:
                continue
            if self._node.wanted.get(attachment.key) is not None:
                continue
            with interfaces.namespace_of(attachment) as netns_fd:
                if netns_fd is not None:
                    log.warning("%s/%s: was on no record, adopted", *attachment.key)
                    self._node.wanted.add(attachment)
                    self._save(attachment)

    def _save(self, attachment: Attachment) -> None:
        try:
            self._node.state.save(attachment)
        except StateError as error:
            log.error("%s/%s: %s", *attachment.key, error)

    def _open_port(self, spec: PortSpec) -> list[int]:
        """Open what a port is attached to, for the converger."""
        wanted = self._node.wanted
        if spec.role == "host":
            assert spec.network is not None
            mtu = wanted.gateway_mtu(spec.network)
            return self._node.gateways.open(spec, mtu, wanted.gateway_addresses(spec.network))
        if spec.role == "exception":
            return self._open_twin(spec)
        attachment = wanted.by_port(spec.name)
        if attachment is None:
            return []
        return interfaces.reopen(attachment, vhost_net=spec.kind == "ethdev")

    def _open_twin(self, spec: PortSpec) -> list[int]:
        for uplink in self._config.uplinks:
            if uplink.exception and spec.uplink == ports.uplink_port_name(uplink.name):
                return self._twins.open(spec, uplink.exception.name, uplink.target)
        return []

    def _uplink_seen(self, spec: PortSpec, state: JsonObject) -> None:
        self._node.wanted.learn_uplink(spec, str(state.get("mac") or ""))
        self._shortcomings.see(spec, state)

    def _messages(self) -> list[str]:
        """Say what is not as configured and works all the same."""
        return [*self._config.messages, *self._device_notes, *self._shortcomings.messages()]

    # --- requests ---------------------------------------------------------------------------------

    def _serve(self, frame: Frame) -> Reply:
        if frame.magic == CNI_MAGIC:
            return self._serve_cni(frame)
        try:
            return 0, _json(self._operations.run(frame.stdin))
        except OperatorError as error:
            return 1, _json({"error": {"message": str(error)}})
        except Exception as error:
            log.exception("an operator's request failed")
            return 1, _json({"error": {"message": f"{type(error).__name__}: {error}"}})

    def _serve_cni(self, frame: Frame) -> Reply:
        started_s = time.monotonic()
        conf: NetConf | None = None
        request: Request | None = None
        try:
            request = Request.parse(_environment(frame.env), frame.stdin, frame.fd)
            if request.command == "VERSION":
                return 0, _json(_versions())
            conf = parse_netconf(frame.stdin, request.args)
            result = self._verbs.run(request, conf)
        except CniError as error:
            _log_call(request, conf, started_s, error.msg)
            return 1, _json(error.to_json(reply_version(frame.stdin, conf)))
        except Exception as error:
            log.exception("a call failed")
            failure = CniError(
                Code.INTERNAL, f"{type(error).__name__}: {error}", traceback.format_exc()
            )
            return 1, _json(failure.to_json(reply_version(frame.stdin, conf)))
        _log_call(request, conf, started_s, "")
        return 0, b"" if result is None else _json(result)

    def _unreadable(self, error: FrameError) -> Reply:
        code = {
            "environment": Code.INVALID_ENVIRONMENT,
            "stdin": Code.DECODING_FAILURE,
        }.get(error.too_big, Code.IO_FAILURE)
        return 1, _json(CniError(code, f"request: {error}").to_json(SUPPORTED_VERSIONS[-1]))

    def _busy(self) -> Reply:
        msg = "the agent has as many calls under way as it serves at once"
        return 1, _json(CniError(Code.TRY_AGAIN_LATER, msg).to_json(SUPPORTED_VERSIONS[-1]))


def _environment(block: bytes) -> dict[str, str]:
    """Read the variables, each ended by a zero byte. Raises CniError 4."""
    env = {}
    for entry in block.split(b"\0"):
        key, equals, value = entry.partition(b"=")
        if entry and not equals:
            msg = f"environment: {entry[:80]!r} is not KEY=VALUE"
            raise CniError(Code.INVALID_ENVIRONMENT, msg)
        if entry:
            env[os.fsdecode(key)] = os.fsdecode(value)
    return env


def _versions() -> dict[str, Any]:
    return {"cniVersion": SUPPORTED_VERSIONS[-1], "supportedVersions": list(SUPPORTED_VERSIONS)}


def _log_call(
    request: Request | None, conf: NetConf | None, started_s: float, failure: str
) -> None:
    """Say what was asked, for whom, how long it took and how it ended, in one line."""
    took_ms = (time.monotonic() - started_s) * 1000
    what = request.command if request else "request"
    whom = f" {request.container_id}/{request.ifname}" if request and request.ifname else ""
    where = f" on {conf.name}" if conf else ""
    trace = request.env.get("TRACEPARENT", "") if request else ""
    suffix = f" [{trace}]" if trace else ""
    if failure:
        log.warning(
            "%s%s%s failed after %.1f ms: %s%s", what, whom, where, took_ms, failure, suffix
        )
    else:
        log.info("%s%s%s in %.1f ms%s", what, whom, where, took_ms, suffix)


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def _only_agent(state_dir: Path) -> int:
    """Lock the state folder, so that no second agent works on it. Raises AgentError."""
    fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise AgentError(f"agent.state_dir: another agent works on {state_dir}") from None
    return fd


__all__ = ["Agent", "AgentError", "ListenError"]
