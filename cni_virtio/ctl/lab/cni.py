"""The runtime's part of CNI: call a plugin with environment and stdin as libcni does."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_virtio.ctl.lab.errors import LabError

DEADLINE_S = 60.0


class PluginError(LabError):
    """A plugin that failed; `code` is CNI's, None where it gave no error object."""

    def __init__(self, command: str, who: str, message: str, code: int | None = None) -> None:
        said = f" (CNI error {code})" if code is not None else ""
        super().__init__(f"{command} of {who} failed: {message}{said}")
        self.code = code


@dataclass(frozen=True)
class PluginReply:
    """What a plugin answered; `output` is None where stdout held no JSON."""

    status: int
    output: dict[str, Any] | None
    stdout: str
    stderr: str
    took_s: float

    def result(self, command: str, who: str) -> dict[str, Any]:
        """Return the result; raises PluginError if the plugin failed."""
        if self.status == 0:
            return self.output or {}
        output = self.output or {}
        words = output.get("msg") or self.stdout.strip() or self.stderr.strip() or "no output"
        details = f": {output['details']}" if output.get("details") else ""
        raise PluginError(command, who, f"{words}{details}", output.get("code"))


@dataclass(frozen=True)
class Plugin:
    """An installed plugin, and the folders in which it finds those that it delegates to."""

    binary: Path
    path: Sequence[Path]

    def call(
        self,
        command: str,
        env: Mapping[str, str],
        netconf: Mapping[str, Any] | bytes,
        deadline_s: float = DEADLINE_S,
    ) -> PluginReply:
        """Run it once. Raises OSError if it cannot be run, TimeoutExpired after the deadline."""
        stdin = netconf if isinstance(netconf, bytes) else json.dumps(netconf).encode()
        cni_path = ":".join(str(folder) for folder in self.path)
        base = {"PATH": os.environ.get("PATH", os.defpath), "CNI_PATH": cni_path}
        started = time.perf_counter()
        done = subprocess.run(
            [str(self.binary)],
            input=stdin,
            capture_output=True,
            env=base | {"CNI_COMMAND": command} | dict(env),
            timeout=deadline_s,
            check=False,
        )
        took_s = time.perf_counter() - started
        stdout = done.stdout.decode(errors="replace")
        stderr = done.stderr.decode(errors="replace")
        return PluginReply(done.returncode, _object(stdout), stdout, stderr, took_s)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
