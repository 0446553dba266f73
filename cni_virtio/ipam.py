"""Delegation to an IPAM plugin, found along CNI_PATH and run with the request's own input."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from cni_virtio.ipam_exec import Outcome, Run, run
from cni_virtio.netconf import NetConf
from cni_virtio.spec import (
    SINCE,
    SUPPORTED_VERSIONS,
    CniError,
    Code,
    Request,
    Result,
    ResultError,
    at_least,
)

DEADLINE_S = 30.0
_OLDEST = SUPPORTED_VERSIONS[0]
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DHCP = "dhcp"
_SHOWN_OUTPUT_BYTES = 200
_MOST_MSG_CHARS = 2000
_MOST_DETAILS_CHARS = 64 << 10


class _Identity(NamedTuple):
    """An executable as it is now: installing another version changes it."""

    path: str
    inode: int
    mtime_ns: int


_older_plugins: dict[_Identity, str] = {}
"""Plugins that turned out not to speak a netconf's version, and the newest that they do."""


def delegate(
    command: str, netconf: NetConf, request: Request, deadline_s: float = DEADLINE_S
) -> Result | None:
    """Run `command` on the netconf's IPAM plugin; the Result for ADD, else None.

    `command` may differ from the request's (DEL undoes an ADD). Nothing is run without IPAM, or
    where the spec version has no such command (CHECK before 0.4.0, GC and STATUS before 1.1.0).
    A plugin older than the netconf is spoken to in the newest version that it has in common.
    Raises CniError: the plugin's own (its code, message prefixed), 7 not found, 5 cannot be run,
    6 garbage, 11 still running after `deadline_s` and killed, 102 failed without saying why, or
    gave no address. After a failed ADD the plugin may still hold an address: run DEL as well.
    """
    return Delegation(command, netconf, request, deadline_s).result()


class Delegation:
    """A call of the IPAM plugin that is under way. Whoever begins one has to take its result.

    Arguments and errors are those of `delegate`.
    """

    def __init__(
        self, command: str, netconf: NetConf, request: Request, deadline_s: float = DEADLINE_S
    ) -> None:
        self._command = command
        self._netconf = netconf
        self._request = request
        self._end_s = time.monotonic() + deadline_s
        self._run: Run | None = None
        if netconf.ipam_type is not None:
            self._plugin = _Plugin(netconf.ipam_type, find(netconf.ipam_type, request.path))
            self._run = self._started(deadline_s)

    def result(self) -> Result | None:
        """Wait for the end; see `delegate`."""
        if self._run is None:
            return None
        refused = self._version
        outcome = self._run.outcome()
        plugin, request = self._plugin, self._request
        if _may_be_older(self._command, outcome) and plugin.learn_version(
            refused, request, self._end_s
        ):
            self._run = self._started(self._end_s - time.monotonic())
            if self._run is None:
                return None
            outcome = self._run.outcome()
        if outcome.exit_status != 0:
            raise _failure(self._plugin.name, self._command, outcome)
        return _result(self._plugin.name, outcome) if self._command == "ADD" else None

    def lease(self) -> Result | None:
        """Return what an ADD gives as soon as the plugin has written it, before it has ended.

        `settle` has to follow: only the plugin's end says that it succeeded.
        """
        if self._run is None:
            return None
        answer = self._run.answer()
        if answer is None or "code" in answer:
            return self.result()
        return _parsed(self._plugin.name, answer)

    def settle(self) -> None:
        """Wait for the end of an ADD; raises CniError if it failed after all."""
        if self._run is not None and not self._run.ended:
            outcome = self._run.outcome()
            if outcome.exit_status != 0:
                raise _failure(self._plugin.name, self._command, outcome)

    def abandon(self) -> None:
        """Wait for the end, whatever it is."""
        if self._run is not None:
            self._run.abandon()

    def _started(self, deadline_s: float) -> Run | None:
        """Start the plugin, in the newest version in common; None if that lacks the command."""
        self._version = self._plugin.version_for(self._netconf.cni_version)
        return self._plugin.start(
            self._command, self._version, self._netconf, self._request, deadline_s
        )


def needs_interface(ipam_type: str | None) -> bool:
    """Whether an IPAM plugin asks for its addresses through the container's own interface."""
    return ipam_type == _DHCP


def find(name: str, path: list[str]) -> Path:
    """The executable `name` in the first folder of `path` that has it; raises CniError 4 or 7."""
    if not path:
        msg = f"CNI_PATH: has no absolute folder to find the IPAM plugin {name!r} in"
        raise CniError(Code.INVALID_ENVIRONMENT, msg)
    for folder in path:
        candidate = Path(folder, name)
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    msg = f"ipam.type: {name!r} is no executable in CNI_PATH ({':'.join(path)})"
    details = "Install the IPAM plugin into one of these folders, or correct ipam.type."
    raise CniError(Code.INVALID_CONFIG, msg, details)


class _Plugin:
    """An IPAM plugin's executable, and the version to speak to it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        status = path.stat()
        self._identity = _Identity(str(path), status.st_ino, status.st_mtime_ns)

    def version_for(self, wanted: str) -> str:
        """`wanted`, or what is known to be the newest that this plugin speaks, if older."""
        newest = _older_plugins.get(self._identity, wanted)
        return wanted if at_least(newest, wanted) else newest

    def learn_version(self, refused: str, request: Request, end_s: float) -> bool:
        """Ask a plugin that refused a version for its own; True if an older one will do.

        The plugin packages of current distributions know 1.0.0 at most, and refuse 1.1.0.
        """
        env = _environment("VERSION", request)
        stdin = json.dumps({"cniVersion": refused}).encode()
        outcome = run(self._path, env, stdin, end_s - time.monotonic())
        spoken = _object(outcome.stdout).get("supportedVersions")
        spoken = spoken if isinstance(spoken, list) else []
        common = [version for version in SUPPORTED_VERSIONS if version in spoken]
        if not common or at_least(common[-1], refused):
            return False
        _older_plugins[self._identity] = common[-1]
        return True

    def start(
        self, command: str, version: str, netconf: NetConf, request: Request, deadline_s: float
    ) -> Run | None:
        """Start a command in a version of the spec, or None if the version does not have it."""
        if not at_least(version, SINCE.get(command, version)):
            return None
        stdin = request.stdin if version == netconf.cni_version else _in_version(netconf, version)
        return Run(self._path, _environment(command, request), stdin, deadline_s)


def _environment(command: str, request: Request) -> dict[str, str]:
    path = os.environ.get("PATH", _DEFAULT_PATH)
    return request.env | {"CNI_COMMAND": command, "PATH": path}


def _in_version(netconf: NetConf, version: str) -> bytes:
    """The configuration as it came, in the shape of an older version."""
    conf = dict(netconf.raw) | {"cniVersion": version}
    if netconf.prev_result is not None:
        conf["prevResult"] = netconf.prev_result.to_json(version)
    return json.dumps(conf).encode()


def _object(output: bytes) -> dict[str, Any]:
    """The JSON object in a plugin's output; empty if it holds none."""
    try:
        value = json.loads(output.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _may_be_older(command: str, outcome: Outcome | None) -> bool:
    if outcome is None or outcome.exit_status == 0:
        return False
    # What a plugin of an older spec says to GC and STATUS varies: the command is unknown, or a
    # variable that these two do not have is missing.
    is_new_command = at_least(SINCE.get(command, _OLDEST), "1.1.0")
    return is_new_command or _object(outcome.stdout).get("code") == Code.INCOMPATIBLE_VERSION


def _failure(name: str, command: str, outcome: Outcome) -> CniError:
    """The plugin's own error, or what can be said of a plugin that gives none."""
    error = _object(outcome.stdout)
    code, msg, details = error.get("code"), error.get("msg"), error.get("details")
    stderr = outcome.stderr.decode("utf-8", "replace").strip()
    if isinstance(code, int) and code > 0 and isinstance(msg, str):
        texts = [details if isinstance(details, str) else "", stderr]
        text = "\n".join(text for text in texts if text)
        # One line, and no more of it than the plugin's own plugin could take.
        said = " ".join(msg.split())[:_MOST_MSG_CHARS]
        return CniError(code, f"IPAM plugin {name}: {said}", text[:_MOST_DETAILS_CHARS])
    status = outcome.exit_status
    how = f"exit status {status}" if status > 0 else f"signal {-status}"
    msg = f"IPAM plugin {name}: {command} ended with {how} and without a CNI error"
    return CniError(Code.IPAM, msg, stderr or _shown(outcome.stdout))


def _result(name: str, outcome: Outcome) -> Result:
    result = _object(outcome.stdout)
    if not result:
        msg = f"IPAM plugin {name}: ADD succeeded, but its output is no JSON object"
        raise CniError(Code.DECODING_FAILURE, msg, _shown(outcome.stdout))
    return _parsed(name, result)


def _parsed(name: str, result: dict[str, Any]) -> Result:
    try:
        parsed = Result.from_json(result)
    except ResultError as error:
        msg = f"IPAM plugin {name}: {error}"
        raise CniError(Code.DECODING_FAILURE, msg, _shown(json.dumps(result).encode())) from None
    if not parsed.ips:
        msg = f"IPAM plugin {name}: ADD succeeded, but gave no address"
        raise CniError(Code.IPAM, msg, _shown(json.dumps(result).encode()))
    return parsed


def _shown(output: bytes) -> str:
    text = output[:_SHOWN_OUTPUT_BYTES].decode("utf-8", "replace")
    return f"output was: {text!r}" if output else "output was empty"
