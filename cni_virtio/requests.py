"""How each request is answered: a CNI call in the spec's shape, an operator's in JSON."""

from __future__ import annotations

import json
import logging
import os
import traceback
from typing import Any

from cni_virtio.framing import CNI_MAGIC, Frame, FrameError, Reply
from cni_virtio.netconf import NetConf
from cni_virtio.netconf import parse as parse_netconf
from cni_virtio.operations import Operations, OperatorError
from cni_virtio.schema import printable
from cni_virtio.spec import SUPPORTED_VERSIONS, CniError, Code, Request
from cni_virtio.timings import Stopwatch, Timings, begin, end, step
from cni_virtio.verbs import Verbs, reply_version

log = logging.getLogger(__name__)


class Requests:
    """Answers what the listener receives; never raises."""

    def __init__(self, verbs: Verbs, operations: Operations, timings: Timings) -> None:
        self._verbs = verbs
        self._operations = operations
        self._timings = timings

    def serve(self, frame: Frame) -> Reply:
        """Answer one request."""
        if frame.magic == CNI_MAGIC:
            watch = begin()
            try:
                return self._serve_cni(frame, watch)
            finally:
                end()
        try:
            return 0, _json(self._operations.run(frame.stdin))
        except OperatorError as error:
            return 1, _json({"error": {"message": str(error)}})
        except Exception as error:
            log.exception("an operator's request failed")
            return 1, _json({"error": {"message": f"{type(error).__name__}: {error}"}})

    def _serve_cni(self, frame: Frame, watch: Stopwatch) -> Reply:
        conf: NetConf | None = None
        request: Request | None = None
        try:
            with step("parse"):
                request = Request.parse(_environment(frame.env), frame.stdin, frame.fd)
                if request.command == "VERSION":
                    return 0, _json(_versions())
                lenient = request.command == "DEL"
                conf = parse_netconf(frame.stdin, request.args, lenient=lenient)
            result = self._verbs.run(request, conf)
        except CniError as error:
            self._ended(request, conf, watch, error)
            return 1, _json(error.to_json(reply_version(frame.stdin, conf)))
        except Exception as error:
            log.exception("a call failed")
            failure = CniError(
                Code.INTERNAL, f"{type(error).__name__}: {error}", traceback.format_exc()
            )
            self._ended(request, conf, watch, failure)
            return 1, _json(failure.to_json(reply_version(frame.stdin, conf)))
        reply = b"" if result is None else _json(result)
        self._ended(request, conf, watch, None)
        return 0, reply

    def unreadable(self, error: FrameError) -> Reply:
        """Answer what was no request."""
        code = {
            "environment": Code.INVALID_ENVIRONMENT,
            "stdin": Code.DECODING_FAILURE,
            "descriptors": Code.TRY_AGAIN_LATER,
        }.get(error.too_big, Code.IO_FAILURE)
        return 1, _json(CniError(code, f"request: {error}").to_json(SUPPORTED_VERSIONS[-1]))

    def busy(self) -> Reply:
        """Answer what there is no room for."""
        msg = "the agent has as many calls under way as it serves at once"
        return 1, _json(CniError(Code.TRY_AGAIN_LATER, msg).to_json(SUPPORTED_VERSIONS[-1]))

    def _ended(
        self,
        request: Request | None,
        conf: NetConf | None,
        watch: Stopwatch,
        error: CniError | None,
    ) -> None:
        if request is not None:
            self._timings.add(request.command, watch, error.code if error else 0)
        _log_call(request, conf, watch.elapsed_s(), error.msg if error else "")


def _environment(block: bytes) -> dict[str, str]:
    """Read the variables, each ended by a zero byte; of two alike the first counts, as in C.

    Raises CniError 4.
    """
    env: dict[str, str] = {}
    for entry in block.split(b"\0"):
        key, equals, value = entry.partition(b"=")
        if entry and not equals:
            msg = f"environment: {entry[:80]!r} is not KEY=VALUE"
            raise CniError(Code.INVALID_ENVIRONMENT, msg)
        if entry:
            env.setdefault(os.fsdecode(key), os.fsdecode(value))
    return env


def _versions() -> dict[str, Any]:
    return {"cniVersion": SUPPORTED_VERSIONS[-1], "supportedVersions": list(SUPPORTED_VERSIONS)}


def _log_call(request: Request | None, conf: NetConf | None, took_s: float, failure: str) -> None:
    """Say what was asked, for whom, how long it took and how it ended, in one line."""
    took_ms = took_s * 1000
    what = request.command if request else "request"
    whom = f" {request.container_id}/{request.ifname}" if request and request.ifname else ""
    if request and (pod := request.pod):
        whom += f" ({pod.get('namespace', '?')}/{pod.get('name', '?')})"
    where = f" on {conf.name}" if conf else ""
    trace = request.env.get("TRACEPARENT", "") if request else ""
    suffix = f" [{trace}]" if trace else ""
    if failure:
        failed = f"{what}{whom}{where} failed after {took_ms:.1f} ms: {failure}{suffix}"
        log.warning("%s", printable(failed))
    else:
        log.info("%s", printable(f"{what}{whom}{where} in {took_ms:.1f} ms{suffix}"))


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
