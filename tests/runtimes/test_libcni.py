"""Every version of the spec through a runtime's library: Debian's libcni, and an equal of 1.2."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtimes.containers import chain
from tests.runtimes.libcni import Attachment, LibCni, PluginError
from tests.runtimes.node import RuntimeNode
from tests.runtimes.pods import Pod, pod
from tests.unit.dataplane_process import ROOT

SPOKEN_BY_DEBIANS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"]
SPOKEN_BY_FIREWALL = ["0.4.0", "1.0.0"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime that is written on libcni, compiled."""
    folder = tmp_path_factory.mktemp("go")
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOPROXY": "off",
        "GOFLAGS": "",
        "GOCACHE": str(folder / "cache"),
    }
    words = ["go", "build", "-o", str(folder / "client"), "./tests/runtimes/libcni"]
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    return folder / "client"


@pytest.fixture
def one(node: RuntimeNode) -> Iterator[Pod]:
    with pod(node.here, "one") as space:
        yield space


@pytest.fixture
def other(node: RuntimeNode) -> Iterator[Pod]:
    with pod(node.here, "other") as space:
        yield space


@pytest.fixture
def libcni(node: RuntimeNode, tmp_path: Path) -> LibCni:
    return LibCni(node.here, node.plugins, tmp_path)


@pytest.mark.parametrize(
    ("version", "chained"),
    [
        *((version, False) for version in SPOKEN_BY_DEBIANS),
        *((version, True) for version in SPOKEN_BY_FIREWALL),
    ],
)
def test_a_runtime_on_debians_libcni(
    node: RuntimeNode, client: Path, one: Pod, tmp_path: Path, version: str, chained: bool
) -> None:
    conflist = tmp_path / "pods.conflist"
    # bandwidth 1.1.1 cannot CHECK what it did not limit.
    after = [each for each in chain() if each["type"] != "bandwidth"] if chained else []
    conflist.write_text(json.dumps(node.conflist(*after, version=version)))
    words = (str(client), str(conflist), str(node.plugins), str(tmp_path / "cache"), one.path)
    node.here.run(*words)


@pytest.mark.parametrize("version", [*SPOKEN_BY_DEBIANS, "1.1.0"])
def test_a_runtime_as_libcni_1_2(node: RuntimeNode, libcni: LibCni, one: Pod, version: str) -> None:
    conflist = node.conflist(version=version)
    attachment = Attachment("one", one.path)
    if version >= "1.1.0":
        libcni.status(conflist)
    result = libcni.add(conflist, attachment)
    assert result["cniVersion"] == version
    container, _ = result["interfaces"]
    assert (container["name"], container["sandbox"]) == ("eth0", one.path)
    assert container.get("mtu") == (1500 if version >= "1.1.0" else None)
    versions = [ip.get("version") for ip in result["ips"]]
    assert versions == (["4", "6"] if version < "1.0.0" else [None, None])
    if version >= "0.4.0":
        libcni.check(conflist, attachment)
    with pytest.raises(PluginError) as refused:
        libcni.add(conflist, attachment)
    assert refused.value.code == 4
    if version >= "0.4.0":
        libcni.check(conflist, attachment)  # the first one is unharmed
    for _ in range(2):
        libcni.delete(conflist, attachment)
    assert node.pods() == set()


def test_gc_removes_what_the_runtime_does_not_know(
    node: RuntimeNode, libcni: LibCni, one: Pod, other: Pod
) -> None:
    conflist = node.conflist(version="1.1.0")
    kept, lost = Attachment("kept", one.path), Attachment("lost", other.path)
    for attachment in (kept, lost):
        libcni.add(conflist, attachment)
    libcni.forget(conflist, lost)
    libcni.gc(conflist, [kept])
    assert node.pods() == {"pod:kept/eth0"}
    assert other.links() == ["lo"]
    libcni.check(conflist, kept)
    libcni.gc(conflist, [])
    assert node.pods() == set()
    libcni.status(conflist)
