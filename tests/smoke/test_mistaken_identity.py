"""Calls for one attachment leave alone what looks like it and is another's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import PLUGINS, Node, containers
from tests.smoke.netns import Netns

POD = "IgnoreUnknown=1;K8S_POD_UID=uid-1"


@pytest.fixture
def spaces() -> Iterator[list[Netns]]:
    with containers(2) as spaces:
        yield spaces


def has_eth0(space: Netns) -> bool:
    return "eth0" in {each["ifname"] for each in json.loads(space.run("ip", "-j", "link"))}


def test_del_of_a_refused_add(here: Node, spaces: list[Netns]) -> None:
    here.add("first", spaces[0])
    assert here.call("ADD", "second", spaces[0]).body["code"] == 4
    here.delete("second", spaces[0])
    assert has_eth0(spaces[0])
    assert here.ports() == {"pod:first/eth0"}
    here.delete("first", spaces[0])


def test_late_del_of_a_pods_former_sandbox(here: Node, spaces: list[Netns]) -> None:
    keys: dict[str, Any] = {"interface": "vhost-user", "args": POD}
    here.add("former", spaces[0], **keys)
    here.delete("former", spaces[0], **keys)
    here.add("next", spaces[1], **keys)
    here.delete("former", spaces[0], **keys)
    assert Path(here.directory, "vhost", "uid-1", "eth0.sock").is_socket()
    here.delete("next", spaces[1], **keys)


def test_del_with_the_path_of_anothers_namespace(here: Node, spaces: list[Netns]) -> None:
    here.add("a", spaces[0])
    here.add("b", spaces[1])
    here.delete("a", spaces[1])
    assert not has_eth0(spaces[0])
    assert has_eth0(spaces[1])
    assert here.ports() == {"pod:b/eth0"}
    here.delete("b", spaces[1])


def test_a_container_that_comes_back_under_its_id(here: Node, spaces: list[Netns]) -> None:
    here.add("c1", spaces[0])
    subprocess.run(["ip", "netns", "del", spaces[0].name], check=True)
    subprocess.run(["ip", "netns", "add", spaces[0].name], check=True)
    here.add("c1", spaces[0])
    here.delete("c1", spaces[0])


def test_gc_comes_back_to_what_it_could_not_free(here: Node, spaces: list[Netns]) -> None:
    here.add("c1", spaces[0])
    keys: dict[str, Any] = {"cni.dev/valid-attachments": []}
    failed = here.call("GC", path=str(here.directory), **keys)
    assert "host-local" in failed.body["msg"]
    assert here.left_over()["leases"]
    assert here.call("GC", path=PLUGINS, **keys).status == 0
    assert here.left_over() == {}
