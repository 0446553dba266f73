"""`cni-virtioctl doctor` and the files of a node: folders, shim, networks, plugins."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_virtio import __version__
from tests.smoke.agent import PLUGINS, SHIM
from tests.smoke.doctor import Practice, practice
from tests.smoke.ports import wait_until
from tests.unit.dataplane_process import ROOT

BRIDGE = {"type": "bridge", "ipam": {}}


@pytest.fixture(scope="module")
def one() -> Iterator[Practice]:
    with practice() as found:
        found.assert_well()
        yield found


@pytest.fixture(autouse=True)
def well_once_mended(one: Practice) -> Iterator[None]:
    yield
    one.furnish()
    one.assert_well()


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name", "mode"), [("socket_dir", "vhost", "0711"), ("state_dir", "state", "0700")]
)
def test_a_folder_is_of_others_or_unwritable(one: Practice, key: str, name: str, mode: str) -> None:
    folder = one.here.directory / name
    folder.mkdir(exist_ok=True)
    for harm, found in (
        (f"chmod 0777 {folder}", "root, mode 0777"),
        (f"chmod 0500 {folder}", "root, mode 0500"),
        (f"chmod 0700 {folder} && chown nobody {folder}", "nobody, mode 0700"),
    ):
        subprocess.run(["sh", "-c", harm], check=True)
        finding = one.see().only(key)
        assert finding["what"] == f"agent.{key}: {folder} is of {found}"
        assert finding["remedy"] == f"chown root {folder} && chmod {mode} {folder}"
        subprocess.run(["sh", "-c", finding["remedy"]], check=True)
        one.assert_well()


def test_the_socket_dir_is_read_only_or_no_folder(one: Practice) -> None:
    folder = one.here.directory / "vhost"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(0o711)
    finding = one.see(broken=f"mount -t tmpfs -o ro,mode=0711 none {folder}").only("socket_dir")
    assert finding["remedy"] == f"mount -o remount,rw {folder}"
    folder.rmdir()
    folder.touch()
    assert one.see().only("socket_dir")["what"].endswith(f"{folder} is not a folder")
    folder.unlink()


@pytest.mark.parametrize(
    ("bytes_", "check", "what"),
    [(31, None, ""), (32, "paths", "is 1 bytes too long"), (50, "config", "has 50 bytes")],
)
def test_paths_of_sockets_are_too_long(
    one: Practice, bytes_: int, check: str | None, what: str
) -> None:
    long = "/tmp/".ljust(bytes_, "x")
    report = one.see(config=one.variant(f"{one.here.directory}/vhost", long))
    if check is None:
        assert report.findings == {}
    else:
        assert what in report.only(check)["what"]


def test_the_disk_is_full(one: Practice) -> None:
    folder = one.here.directory / "full"
    folder.mkdir()
    config = one.variant(f"{one.here.directory}/state", str(folder))
    mount = f"mount -t tmpfs none {folder} -o mode=0700,size=4m"
    assert one.see(config=config, broken=mount).findings == {}
    filled = one.see(config=config, broken=f"{mount} && head -c 4000000 /dev/zero > {folder}/x")
    assert "is full: " in filled.only("state_dir")["what"]
    crowded = one.see(config=config, broken=f"{mount},nr_inodes=3")
    assert "inodes free" in crowded.only("state_dir")["what"]
    folder.rmdir()


def test_a_record_is_in_quarantine(one: Practice) -> None:
    record = one.here.directory / "state" / "quarantine" / "pods@a@eth0.json"
    record.write_text("{")
    assert one.see().only("records")["what"].endswith("such as pods@a@eth0.json")
    record.unlink()


# --- shim -----------------------------------------------------------------------------------------


def test_the_shim_is_not_installed(one: Practice) -> None:
    one.shim.unlink()
    finding = one.see().only("shim")
    assert finding["remedy"] == f"install -D -m 0755 {SHIM} {one.shim}"
    subprocess.run(finding["remedy"].split(), check=True)
    one.assert_well()


def test_the_shim_is_not_executable(one: Practice) -> None:
    one.shim.chmod(0o644)
    assert one.see().only("shim")["remedy"] == f"chmod 0755 {one.shim}"


def test_the_shim_is_another_program_and_is_not_executed(one: Practice, tmp_path: Path) -> None:
    one.shim.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    assert "is another program" in one.see().only("shim")["what"]
    assert list(tmp_path.iterdir()) == []


def build_shim(target: Path, version: str) -> None:
    words = ["musl-gcc", "-std=c11", "-static", f'-DCNI_VIRTIO_VERSION="{version}"']
    source = ROOT / "cni_virtio" / "shim.c"
    subprocess.run([*words, "-o", str(target), str(source)], check=True)


def test_the_shim_is_of_another_build(one: Practice) -> None:
    build_shim(one.shim, __version__)  # without the options of ./dev
    assert "is not the shim built here" in one.see().only("shim")["what"]


def test_the_shim_is_of_another_version(one: Practice) -> None:
    build_shim(one.shim, "9.9.9")
    finding = one.see().only("versions")
    assert finding["what"] == f"the shim {one.shim} is 9.9.9, the agent {__version__}"
    subprocess.run(finding["remedy"].split(), check=True)
    one.assert_well()


# --- networks -------------------------------------------------------------------------------------


def test_another_network_comes_first(one: Practice) -> None:
    other = one.conf_dir / "05-other.conflist"
    one.write_network(other, BRIDGE, name="other")
    finding = one.see().only("order")
    assert f"{other} (network other, type bridge) comes before {one.network}" == finding["what"]
    subprocess.run(finding["remedy"].partition(",")[0].split(), check=True)
    one.assert_well()


def test_others_may_come_after(one: Practice) -> None:
    one.write_network(one.conf_dir / "87-podman.conflist", BRIDGE, name="podman")
    (one.conf_dir / "99-broken.conflist").write_text("{")
    (one.conf_dir / "05-other.conflist.disabled").write_text("{")
    one.assert_well()


def test_with_multus_any_may_come_first(one: Practice) -> None:
    multus = {"cniVersion": "1.0.0", "name": "multus", "type": "multus-shim"}
    (one.conf_dir / "00-multus.conf").write_text(json.dumps(multus))
    one.write_network(one.conf_dir / "05-default.conflist", BRIDGE, name="default")
    one.assert_well()


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("05-cut.conflist", '{"name":\n "x', "line 2: not JSON"),
        ("05-bare.conflist", '{"name": "x"}', '"plugins" is missing'),
        ("05-nameless.conf", '{"type": "bridge"}', '"name" is missing'),
        ("05-list.conf", '{"name": "x", "plugins": []}', "must be called .conflist"),
    ],
)
def test_a_file_that_comes_first_is_unreadable(
    one: Practice, name: str, text: str, what: str
) -> None:
    (one.conf_dir / name).write_text(text)
    assert what in one.see().only("networks")["what"]


def test_no_network_is_ours(one: Practice) -> None:
    one.write_network(one.network, BRIDGE)
    report = one.see()
    assert "no network of type cni-virtio" in report.only("networks")["what"]
    assert report.states["order"] == "skipped"


def test_a_name_is_taken_twice(one: Practice) -> None:
    one.write_network(one.conf_dir / "20-pods.conflist", one.conf(), {"type": "portmap"})
    assert one.see().only("networks")["what"].endswith(f"is in {one.network} already")


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"queus": 2}, 'queus: unknown key with value 2; did you mean "queues"?'),
        ({"mtu": 1}, "mtu: 1 is less than the minimum of 68"),
        ({"agentSocket": "/run/other.sock"}, "agentSocket is /run/other.sock, the agent's is "),
    ],
)
def test_the_agent_would_refuse_a_network(
    one: Practice, keys: dict[str, object], what: str
) -> None:
    one.write_network(one.network, one.conf(**keys))
    assert what in one.see().only("networks")["what"]


# --- plugins --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "key"), [("host-local", "IPAM plugin"), ("portmap", "plugin")])
def test_a_plugin_is_missing(one: Practice, name: str, key: str) -> None:
    plugin = one.bin_dir / name
    plugin.chmod(0o644)
    finding = one.see().only("plugins")
    assert f"{key} {name} is not executable in {one.bin_dir}" in finding["what"]
    assert finding["remedy"] == f"chmod 0755 {plugin}"
    plugin.unlink()
    finding = one.see().only("plugins")
    assert finding["what"] == f"{one.network}: {key} {name} is missing in {one.bin_dir}"
    assert finding["remedy"] == f"cp {PLUGINS}/{name} {one.bin_dir}/"
    subprocess.run(finding["remedy"].split(), check=True)
    one.assert_well()


def test_the_dhcp_daemon_does_not_run(one: Practice) -> None:
    place = one.here.directory / "dhcp.sock"
    ipam = {"type": "dhcp", "daemonSocketPath": str(place)}
    one.write_network(one.network, one.conf(ipam=ipam))
    assert f"no daemon of the dhcp plugin listens at {place}" in one.see().only("plugins")["what"]
    daemon = one.here.host.running(f"{one.bin_dir}/dhcp", "daemon", "-socketpath", str(place))
    with daemon:
        wait_until(place.exists, "it listens")
        one.assert_well()
    one.see().only("plugins")
