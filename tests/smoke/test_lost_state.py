"""Records that are damaged or gone: the dataplane shows as much, and a DEL needs neither."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_virtio.ctl.agent_client import AgentError
from tests.smoke.agent import Node, containers, until_gone, valid
from tests.smoke.losses import echoes
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until
from tests.smoke.traffic import ping

GATEWAY = "10.88.0.1"
KERNEL: dict[str, Any] = {"isDefaultGateway": True, "ipMasq": True}
VHOST: dict[str, Any] = {
    "interface": "vhost-user",
    "vhostUser": {"mountPath": "/run/vhost"},
    "capabilities": {"CNIDeviceInfoFile": True},
}
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a": lambda content: content[: len(content) // 2],
    "b": lambda _: b"",
    "c": lambda content: os.urandom(len(content)),
}


@pytest.fixture
def kinds(here: Node) -> dict[str, dict[str, Any]]:
    """What the netconf of each container says."""
    file = {"CNIDeviceInfoFile": str(info_file(here))}
    return {"a": KERNEL, "b": VHOST | {"runtimeConfig": file}, "c": KERNEL, "intact": KERNEL}


@pytest.fixture
def spaces(kinds: dict[str, Any]) -> Iterator[dict[str, Netns]]:
    with containers(len(kinds)) as spaces:
        yield dict(zip(kinds, spaces, strict=True))


def info_file(here: Node) -> Path:
    return here.directory / "info" / "eth0.json"


def records(here: Node) -> dict[str, Path]:
    """The records by container."""
    return {path.name.split("@")[1]: path for path in here.directory.glob("state/attachments/*")}


def ports(here: Node) -> set[str]:
    try:
        return here.ports()
    except AgentError:
        return set()


def assert_nothing_left(here: Node) -> None:
    assert here.left_over() == {}
    assert here.ports() == set()
    assert not info_file(here).exists()
    assert here.host.run("nft", "list", "ruleset") == ""


def test_damaged_records(here: Node, kinds: dict[str, Any], spaces: dict[str, Netns]) -> None:
    results = {name: here.add(name, spaces[name], **keys).body for name, keys in kinds.items()}
    info = info_file(here).read_bytes()
    here.end(signal.SIGKILL)
    damaged = {path.name: damage(here, name, path) for name, path in records(here).items()}
    with echoes(spaces["a"], GATEWAY) as count:
        here.start()
        wait_until(lambda: here.status()["attachments"] == len(kinds), "all are known")
    assert count.lost == 0
    assert records(here).keys() == kinds.keys()

    put_away = list(here.directory.glob("state/quarantine/*"))
    assert {path.name: path.read_bytes() for path in put_away}.items() <= damaged.items()
    assert {stat.S_IMODE(path.stat().st_mode) for path in put_away} == {0o600}
    (note,) = here.status()["messages"]
    assert note.startswith(f"{len(DAMAGE)} unreadable records lie in {here.directory}/state/quar")
    assert "pods@b@eth0.json: is empty, cut off or not JSON" in log(here)

    here.kill_dataplane()
    had = {f"pod:{name}/eth0" for name in kinds} | {"host:pods"}
    wait_until(lambda: ports(here) == had, "all ports are back")
    assert ping(spaces["a"], GATEWAY) == 3
    for name, keys in kinds.items():
        checked = here.call("CHECK", name, spaces[name], prevResult=results[name], **keys)
        assert (checked.status, checked.body) == (0, {})
    assert info_file(here).read_bytes() == info
    for name, keys in kinds.items():
        here.delete(name, spaces[name], **keys)
    assert_nothing_left(here)


def damage(here: Node, name: str, path: Path) -> bytes:
    """Damage a record, if that is to be done, and give what it holds."""
    if name in DAMAGE:
        path.write_bytes(DAMAGE[name](path.read_bytes()))
        path.chmod(0o644)
    return path.read_bytes()


def log(here: Node) -> str:
    return (here.directory / "agent.log").read_text()


def test_what_was_detached_is_not_adopted(here: Node, a: Netns) -> None:
    """As after a DEL whose agent was killed before the dataplane heard of it."""
    here.add("a", a, **KERNEL)
    here.end(signal.SIGKILL)
    records(here)["a"].unlink()
    a.ip("link del eth0")
    here.start()
    wait_until(lambda: "pod:a/eth0" not in ports(here), "its port is gone")
    assert here.status()["attachments"] == 0
    here.delete("a", a, **KERNEL)
    assert_nothing_left(here)


def test_gc_frees_the_addresses_of_what_was_on_no_record(
    here: Node, kinds: dict[str, Any], spaces: dict[str, Netns]
) -> None:
    for name, keys in kinds.items():
        here.add(name, spaces[name], **keys)
    here.end(signal.SIGKILL)
    shutil.rmtree(here.directory / "state")
    here.start()
    wait_until(lambda: here.status()["attachments"] == len(kinds), "all are known")
    assert here.call("GC", **valid()).status == 0
    assert_nothing_left(here)


def test_del_after_all_was_lost(
    here: Node, kinds: dict[str, Any], spaces: dict[str, Netns]
) -> None:
    results = {name: here.add(name, spaces[name], **keys).body for name, keys in kinds.items()}
    dataplane = here.status()["dataplane"]["pid"]
    here.end(signal.SIGKILL)
    os.kill(dataplane, signal.SIGKILL)
    until_gone(dataplane)
    shutil.rmtree(here.directory / "state")
    here.start()
    checked = here.call("CHECK", "a", spaces["a"], prevResult=results["a"], **KERNEL)
    assert checked.body["msg"] == "eth0 of container a is not attached to network pods"
    assert results["a"]["ips"][0]["address"] in spaces["a"].run("ip", "addr")
    for name, keys in kinds.items():
        here.delete(name, spaces[name], **keys)
        assert "eth0" not in spaces[name].run("ip", "link")
    assert_nothing_left(here)
