"""Calls IPAM plugins for the tests: real ones, and scripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import netconf
from cni_virtio.ipam import delegate
from cni_virtio.netconf import NetConf
from cni_virtio.spec import CniError, Request, Result

ANSWER = '{"ips": [{"address": "10.9.0.5/16", "gateway": "10.9.0.1"}]}'


class Caller:
    """Calls a plugin as the verbs do: netconf and request from one configuration."""

    def __init__(self, path: list[str], ipam: dict[str, Any], version: str = "1.1.0") -> None:
        self.path = path
        self.conf: dict[str, Any] = {"cniVersion": version, "name": "net", "type": "cni-virtio"}
        self.conf["ipam"] = ipam
        self.container_id = "c1"

    def __call__(self, command: str, deadline_s: float = 10.0) -> Result | None:
        conf, request = self.request()
        return delegate(command, conf, request, deadline_s)

    def request(self) -> tuple[NetConf, Request]:
        stdin = json.dumps(self.conf).encode()
        env = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": ":".join(self.path),
        }
        return netconf.parse(stdin), Request.parse(env, stdin)

    def fails(self, command: str, deadline_s: float = 10.0) -> CniError:
        with pytest.raises(CniError) as caught:
            self(command, deadline_s)
        assert "\n" not in caught.value.msg
        return caught.value


def scripted(tmp_path: Path, body: str, version: str = "1.1.0") -> Caller:
    """Make a plugin of a script that runs in the test's folder."""
    plugin = tmp_path / "bin" / "scripted"
    plugin.parent.mkdir(exist_ok=True)
    plugin.write_text(f"#!/bin/sh\ncd {tmp_path}\n{body}\n")
    plugin.chmod(0o755)
    return Caller(["/nonexistent", str(plugin.parent)], {"type": "scripted"}, version)
