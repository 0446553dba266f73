"""Parts of the lab that need no root: the plugin's call, placeholders, who pings whom, locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni_virtio.ctl.lab.apps import Peer, app_cores, fill
from cni_virtio.ctl.lab.attachments import Attachment
from cni_virtio.ctl.lab.cni import Plugin, PluginError
from cni_virtio.ctl.lab.errors import LabError
from cni_virtio.ctl.lab.file import parse
from cni_virtio.ctl.lab.lock import Lock
from cni_virtio.ctl.lab.mesh import Mesh, neighbours
from cni_virtio.ctl.lab.neighbours import shortage
from cni_virtio.ctl.lab.paths import LabPaths
from cni_virtio.ctl.lab.processes import end, inside
from cni_virtio.ctl.lab.runtime import Runtime
from cni_virtio.ctl.lab.topology import Topology

ECHO = """\
#!{python}
import json, os, sys
env = {{key: value for key, value in os.environ.items() if key.startswith("CNI_")}}
print(json.dumps({{"env": env, "conf": json.load(sys.stdin)}}))
"""
REFUSE = """\
#!/bin/sh
echo '{"code": 7, "msg": "mtu: 0 is too small", "details": "at least 68"}'
exit 1
"""


def plugin(folder: Path, text: str) -> Plugin:
    file = folder / "plugin"
    file.write_text(text.replace("{python}", sys.executable).replace("{{", "{").replace("}}", "}"))
    file.chmod(0o755)
    return Plugin(file, (Path("/usr/lib/cni"), folder))


def attachment(**changes: object) -> Attachment:
    base = Attachment("c1", "x-c1", "/run/netns/x-c1", "eth0", {"name": "pods"}, {"A": "b"})
    for key, value in changes.items():
        setattr(base, key, value)
    return base


def test_plugin_is_called_as_a_runtime_does(tmp_path: Path) -> None:
    result = {"ips": [{"address": "10.0.0.2/24"}]}
    echo = plugin(tmp_path, ECHO)
    said = attachment(result=result).call(echo, "DEL").output
    assert said is not None
    assert said["conf"] == {"name": "pods", "prevResult": result}
    assert said["env"] == {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "x-c1",
        "CNI_NETNS": "/run/netns/x-c1",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;A=b",
        "CNI_PATH": f"/usr/lib/cni:{tmp_path}",
    }
    added = attachment(result=result).call(echo, "ADD").output
    assert added is not None
    assert "prevResult" not in added["conf"]


def test_refusal_is_told_whole(tmp_path: Path) -> None:
    reply = attachment().call(plugin(tmp_path, REFUSE), "ADD")
    with pytest.raises(PluginError, match="ADD of c1/eth0 failed: mtu: 0 is too small") as error:
        reply.result("ADD", "c1/eth0")
    assert error.value.code == 7
    assert "at least 68" in str(error.value)


def test_placeholders() -> None:
    found = attachment(
        netconf={"name": "pods", "queues": 2},
        result={
            "interfaces": [{"name": "eth0", "mac": "02::1", "socketPath": "/v/eth0.sock"}],
            "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}],
        },
    )
    peers = {"app-2": Peer("app-2", "02::2", "10.0.0.3", "eth0")}
    words = ["{socket}", "{mac},{app-2.mac}", "{ip}>{gateway}", "q={queues}", "{core}", "{{}}"]
    made = fill(words, "app", found, peers, LabPaths(Path("/l")), 3)
    assert made == ["/v/eth0.sock", "02::1,02::2", "10.0.0.2>10.0.0.1", "q=2", "3", "{}"]


def test_applications_keep_off_the_workers_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert app_cores({"main_core": 0, "cores": [1]}) == [2, 3, 0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert app_cores({}) == [0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert app_cores({"cores": [0]}) == [0]


def test_who_pings_whom(tmp_path: Path) -> None:
    spec = parse(
        {
            "name": "x",
            "uplinks": [{"name": "wire0", "outside": {"addresses": ["10.0.0.250/24"]}}],
            "networks": [
                {"name": "pods", "uplink": "wire0", "subnets": ["10.0.0.0/24"], "gateway": True}
            ],
            "containers": [
                {"name": "c1", "network": "pods"},
                {"name": "app", "kind": "vhost-user", "network": "pods", "command": "testpmd"},
                {"name": "mute", "kind": "vhost-user", "network": "pods"},
            ],
        }
    )
    runtime = Runtime("x", LabPaths(tmp_path), tmp_path / "plugin")
    for number, container in enumerate(spec.containers, start=2):
        ip = {"address": f"10.0.0.{number}/24", "gateway": "10.0.0.1"}
        made = attachment(container=container.name, result={"ips": [ip]})
        runtime._attachments[container.name, "eth0"] = made
    hosts = Topology(spec, runtime, 4).hosts()
    assert [(h.name, h.addresses, h.netns) for h in hosts] == [
        ("c1", ("10.0.0.2",), "x-c1"),
        ("app", ("10.0.0.3",), None),
        ("host", ("10.0.0.1",), "x-host"),
        ("wire0", ("10.0.0.250",), "x-wire0"),
    ]
    assert neighbours(hosts) == 12
    assert Topology(spec, runtime, 6).hosts() == []


def test_mesh_verdict() -> None:
    assert Mesh(("a",), ("b",), {("a", "b"): 9.0}).ok
    assert not Mesh(("a",), ("b",), {}).ok
    assert Mesh(("a",), ("b",), {("a", "b"): None}).failed == [("a", "b")]


def test_shortage_of_neighbours_names_the_remedy() -> None:
    assert shortage(4, 1) == ""
    assert "sysctl -w net.ipv4.neigh.default.gc_thresh3=" in shortage(4, 1 << 30)


def test_lock_names_its_holder(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.take()
    first.take()
    with pytest.raises(LabError, match=f"process {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_processes_are_found_and_ended_by_namespace(tmp_path: Path) -> None:
    # Its own namespace serves as well as any: the process is named beside it.
    here = Path("/proc/self/ns/net")
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in inside([here])
        assert end([child.pid], 5.0, [tmp_path]) == []
        assert child.poll() is None
        child.kill()
    assert inside([tmp_path / "none"]) == []


def test_stored_attachment_is_json(tmp_path: Path) -> None:
    runtime = Runtime("x", LabPaths(tmp_path), plugin(tmp_path, REFUSE).binary)
    runtime.paths.create()
    with pytest.raises(PluginError):
        runtime.add("c1", {"name": "pods"})
    (file,) = runtime.paths.attachments.iterdir()
    assert json.loads(file.read_text())["result"] is None
