"""A runtime's side of CNI as libcni 1.2 does it, for the versions that Debian's does not speak.

It keeps results in a cache, gives the last one to CHECK and DEL as prevResult, runs a list's
plugins in order (DEL: in reverse), and passes to each the capabilities that it declares.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.runtimes.machine import Machine

Json = dict[str, Any]


class PluginError(Exception):
    """What a plugin printed as its error."""

    def __init__(self, plugin: str, body: Json) -> None:
        super().__init__(f"{plugin}: {body.get('msg')}")
        self.plugin = plugin
        self.code = body.get("code")
        self.msg = str(body.get("msg", ""))


@dataclass(frozen=True)
class Attachment:
    """What a runtime asks for: `capabilities` are values by name, `args` are CNI_ARGS."""

    container_id: str
    netns: str
    ifname: str = "eth0"
    args: str = ""
    capabilities: Json = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": self.args,
        }


_NOTHING = Attachment("", "", "")
"""Of GC and STATUS: the variables are there, empty."""


@dataclass(frozen=True)
class LibCni:
    """Runs the plugins of `folder` on a machine; `cache` is a folder for results."""

    machine: Machine
    folder: Path
    cache: Path

    def add(self, conflist: Json, attachment: Attachment) -> Json:
        """Give the last plugin's result. Raises PluginError."""
        result: Json | None = None
        for plugin in conflist["plugins"]:
            result = self._run("ADD", conflist, plugin, attachment, _previous(result))
        assert result
        cached = {"attachment": asdict(attachment), "result": result}
        self._cached(conflist, attachment).write_text(json.dumps(cached))
        return result

    def check(self, conflist: Json, attachment: Attachment) -> None:
        """Raise PluginError for the first plugin that finds a fault."""
        assert conflist["cniVersion"] >= "0.4.0", "there was no CHECK before 0.4.0"
        previous = _previous(_read(self._cached(conflist, attachment))["result"])
        for plugin in conflist["plugins"]:
            self._run("CHECK", conflist, plugin, attachment, previous)

    def delete(self, conflist: Json, attachment: Attachment) -> None:
        """Raises PluginError; the cache then still has the result."""
        cached = self._cached(conflist, attachment)
        known = conflist["cniVersion"] >= "0.4.0" and cached.exists()
        previous = _previous(_read(cached)["result"]) if known else {}
        for plugin in reversed(conflist["plugins"]):
            self._run("DEL", conflist, plugin, attachment, previous)
        cached.unlink(missing_ok=True)

    def forget(self, conflist: Json, attachment: Attachment) -> None:
        """Lose what the cache has of an attachment."""
        self._cached(conflist, attachment).unlink()

    def gc(self, conflist: Json, valid: list[Attachment]) -> None:
        """DEL what the cache has and is not valid, then GC. Raises PluginError."""
        for cached in self.cache.glob(f"{conflist['name']}-*"):
            attachment = Attachment(**_read(cached)["attachment"])
            if attachment not in valid:
                self.delete(conflist, attachment)
        listed = [{"containerID": each.container_id, "ifname": each.ifname} for each in valid]
        # libcni gives the list under its older name, too.
        inject = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        for plugin in conflist["plugins"]:
            self._run("GC", conflist, plugin, _NOTHING, inject)

    def status(self, conflist: Json) -> None:
        """Raises PluginError."""
        for plugin in conflist["plugins"]:
            self._run("STATUS", conflist, plugin, _NOTHING, {})

    def _cached(self, conflist: Json, attachment: Attachment) -> Path:
        name = f"{conflist['name']}-{attachment.container_id}-{attachment.ifname}"
        return self.cache / name

    def _run(
        self, verb: str, conflist: Json, plugin: Json, attachment: Attachment, inject: Json
    ) -> Json:
        conf = plugin | {"name": conflist["name"], "cniVersion": conflist["cniVersion"]} | inject
        declared = [name for name, value in plugin.get("capabilities", {}).items() if value]
        asked = attachment.capabilities
        passed = {name: asked[name] for name in declared if name in asked}
        conf |= {"runtimeConfig": passed} if passed else {}
        variables = {"CNI_COMMAND": verb, "CNI_PATH": str(self.folder), **attachment.environment}
        done = subprocess.run(
            self.machine.command(str(self.folder / plugin["type"])),
            env=dict(os.environ) | variables,
            input=json.dumps(conf),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        body: Json = json.loads(done.stdout) if done.stdout.strip() else {}
        if done.returncode != 0:
            raise PluginError(plugin["type"], body)
        assert bool(body) == (verb == "ADD"), done.stdout
        return body


def _read(cached: Path) -> Json:
    found: Json = json.loads(cached.read_text())
    return found


def _previous(result: Json | None) -> Json:
    return {"prevResult": result} if result is not None else {}
