"""A chain of plugins, run in the spec's order as a runtime would (section 3)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from tests.smoke.agent import PLUGINS, SHIM, Answer, Node
from tests.smoke.netns import Netns


@dataclass
class Chain:
    """The configurations of plugins; one without `type` is the node's own, with IPAM."""

    node: Node
    plugins: list[dict[str, Any]]
    version: str = "1.0.0"
    result: dict[str, Any] = field(default_factory=dict)

    def add(self, container: str, space: Netns) -> Answer:
        """ADD all; the last answer, or the first that is no success."""
        answer = Answer(0, {})
        for plugin in self.plugins:
            more = {"prevResult": answer.body} if answer.body else {}
            answer = self._run("ADD", plugin, container, space, more)
            if answer.status:
                return answer
        self.result = answer.body
        return answer

    def check(self, container: str, space: Netns) -> dict[str, str]:
        """CHECK all; what each of them found wrong, by its type."""
        more = {"prevResult": self.result}
        found = {
            str(plugin.get("type", "cni-virtio")): self._run(
                "CHECK", plugin, container, space, more
            )
            for plugin in self.plugins
        }
        return {kind: each.body["msg"] for kind, each in found.items() if each.status}

    def delete(self, container: str, space: Netns) -> None:
        """DEL all, the last first; each must succeed."""
        for plugin in reversed(self.plugins):
            answer = self._run("DEL", plugin, container, space, {"prevResult": self.result})
            assert answer.status == 0, answer.body

    def _run(
        self, command: str, plugin: dict[str, Any], container: str, space: Netns, more: Any
    ) -> Answer:
        conf = self.node.conf(**plugin) if "type" not in plugin else {"name": "pods"} | plugin
        conf |= {"cniVersion": self.version} | more
        program = f"{PLUGINS}/{plugin['type']}" if "type" in plugin else str(SHIM)
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(space.path),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": PLUGINS,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        done = subprocess.run(
            ["ip", "netns", "exec", self.node.host.name, program],
            env=env,
            input=json.dumps(conf),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Answer(done.returncode, json.loads(done.stdout or "{}"))
