"""The agent of a lab: started in the lab's host namespace, waited for, asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from cni_virtio.ctl.agent_client import AgentError, query
from cni_virtio.ctl.lab import processes
from cni_virtio.ctl.lab.errors import LabError
from cni_virtio.ctl.lab.paths import CHECKOUT, LabPaths
from cni_virtio.ctl.lab.wiring import netns_path

_READY_S = 60.0
_POLL_S = 0.05
_LOG_LINES = 12


class AgentStartError(LabError):
    """The agent did not come up; the text ends with what it said."""


def start(paths: LabPaths, host: str) -> subprocess.Popen[bytes]:
    """Start the agent and wait until its dataplane runs. Raises AgentStartError."""
    argv = [sys.executable, "-m", "cni_virtio", "--config", str(paths.agent_config)]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = processes.start(
        argv, netns_path=netns_path(host), log=paths.agent_log, env=env, cwd=CHECKOUT
    )
    try:
        _wait_ready(process, paths)
    except BaseException:
        process.terminate()
        raise
    return process


def status(paths: LabPaths) -> dict[str, Any]:
    """Return the agent's own view. Raises AgentError."""
    return query(paths.agent_socket, "status", timeout_s=5.0)


def _wait_ready(process: subprocess.Popen[bytes], paths: LabPaths) -> None:
    deadline = time.monotonic() + _READY_S
    reason = "it has not been asked yet"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _failed(paths, f"the agent ended with status {process.returncode}")
        try:
            dataplane = status(paths).get("dataplane") or {}
            if dataplane.get("running"):
                return
            reason = f"its dataplane does not run: {dataplane.get('last_error') or 'no reason yet'}"
        except AgentError as error:
            reason = str(error)
        time.sleep(_POLL_S)
    raise _failed(paths, f"the agent is not ready after {_READY_S:.0f} s: {reason}")


def _failed(paths: LabPaths, what: str) -> AgentStartError:
    said = processes.tail(paths.agent_log, _LOG_LINES)
    return AgentStartError(f"{what}; it said:\n{said}" if said else f"{what} and said nothing")
