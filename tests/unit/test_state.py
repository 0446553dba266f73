"""The record of attachments: what is written is read back, and garbage does no harm."""

import errno
import json
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_virtio import masquerade
from cni_virtio.state import Attachment, Key, StateDir, StateError, file_name
from dataplane.wire import Limits

PLAIN = Attachment("pods", "pods", "c1", "eth0", created_s=100.0)
FULL = Attachment(
    name="pods",
    network="blue",
    container_id="c2",
    ifname="net1",
    netns="/run/netns/c2",
    netns_inode=4026532000,
    netns_cookie=7,
    netns_seen=True,
    interface="vhost-user",
    mac="02:00:00:00:00:02",
    ips=("10.88.0.5/16", "fd00::5/64"),
    gateways=("10.88.0.1/16",),
    mtu=9000,
    queues=4,
    queue_size=1024,
    spoof_check=False,
    ip_masq=True,
    limits=Limits(100_000_000, 2_000_000),
    vhost_mode="server",
    socket_path="/run/cni-virtio/vhost/c2/net1.sock",
    uid=1000,
    gid=1000,
    mount_path="/run/vhost",
    device_info_file="/run/devinfo/net1.json",
    labels={"namespace": "shop", "pod": "web-0"},
    cni_version="1.0.0",
    cni_path="/opt/cni/bin",
    cni_args="IgnoreUnknown=1",
    result={"cniVersion": "1.0.0", "ips": [{"address": "10.88.0.5/16"}]},
    netconf={"cniVersion": "1.0.0", "name": "pods"},
    created_s=50.5,
)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def records(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "attachments").iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_saved_is_there_after_a_restart(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    state.save(FULL)
    attachments, quarantined = StateDir(tmp_path / "state").load_all()
    assert attachments == [FULL, PLAIN]
    assert quarantined == []


def test_a_record_from_before_there_were_limits_is_read(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    assert "limits" not in json.loads(records(tmp_path)[0].read_text())
    assert StateDir(tmp_path / "state").load_all() == ([PLAIN], [])


def test_look_up(state: StateDir) -> None:
    state.save(PLAIN)
    state.save(FULL)
    assert state.get(("c1", "eth0")) == PLAIN
    assert state.get(Key("c2", "net1")) == FULL
    assert state.get(("c1", "net1")) is None
    assert state.all() == [FULL, PLAIN]
    assert state.of_network("blue") == [FULL]
    assert state.of_network("green") == []


def test_delete_twice(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    assert state.delete(PLAIN.key) == PLAIN
    assert state.delete(PLAIN.key) is None
    assert records(tmp_path) == []
    assert StateDir(tmp_path / "state").load_all() == ([], [])


def test_a_record_of_an_earlier_version(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    (path,) = records(tmp_path)
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "ip_masq"})
    )
    assert StateDir(tmp_path / "state").load_all() == ([PLAIN], [])


def test_delete_of_a_record_whose_file_is_gone(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    records(tmp_path)[0].unlink()
    assert state.delete(PLAIN.key) == PLAIN


def test_saving_again_replaces(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    state.save(replace(PLAIN, mtu=9000))
    state.save(replace(PLAIN, name="other", mtu=9001))
    assert [path.name for path in records(tmp_path)] == ["other@c1@eth0.json"]
    assert [item.mtu for item in StateDir(tmp_path / "state").load_all()[0]] == [9001]


def test_only_the_owner_may_read(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    top = tmp_path / "state"
    assert [mode(path) for path in (top, top / "attachments", top / "quarantine")] == [0o700] * 3
    assert mode(records(tmp_path)[0]) == 0o600


def test_names_of_files_are_readable_safe_and_short() -> None:
    assert file_name(PLAIN) == "pods@c1@eth0.json"
    odd = replace(PLAIN, ifname="a@b%c\udcff")
    assert file_name(odd) == "pods@c1@a%40b%25c%FF.json"
    long = replace(PLAIN, container_id="c" * 500)
    longer = replace(PLAIN, container_id="c" * 501)
    assert len(file_name(long)) < 255
    assert file_name(long) != file_name(longer)
    assert file_name(long).startswith("pods@ccc")


def test_a_long_name_survives_a_restart(state: StateDir, tmp_path: Path) -> None:
    long = replace(PLAIN, container_id="c" * 5000, ifname="a\udcff")
    state.save(long)
    assert StateDir(tmp_path / "state").load_all() == ([long], [])


def changed(**values: Any) -> bytes:
    data = {**PLAIN.to_json(), **values}
    return json.dumps({k: v for k, v in data.items() if v is not ...}).encode()


def test_a_record_of_an_older_agent(state: StateDir, tmp_path: Path) -> None:
    later = ("netns_cookie", "netns_seen", "cni_path", "cni_args", "mount_path", "device_info_file")
    path = tmp_path / "state" / "attachments" / "pods@c1@eth0.json"
    path.write_bytes(changed(**dict.fromkeys(later, ...)))
    assert state.load_all() == ([PLAIN], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty, cut off or not JSON"),
        (changed()[:-20], "is empty, cut off or not JSON"),
        (b"\xff" * 100, "is empty, cut off or not JSON"),
        (b"\0" * 4096, "is empty, cut off or not JSON"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "is not a JSON object"),
        (b"{}", "schema: None is not 1"),
        (changed(schema=0), "schema: 0 is not 1"),
        (changed(schema=2), "was written by a newer agent (schema 2, this one knows 1)"),
        (changed(mtu=...), "mtu: is missing"),
        (changed(mtu="big"), "mtu: 'big' is not a int"),
        (changed(mtu=True), "mtu: True is not a int"),
        (changed(spoof_check=1), "spoof_check: 1 is not a bool"),
        (changed(ips=[1]), "ips: [1] is not a list of strings"),
        (changed(ips="10.0.0.1/8"), "ips: '10.0.0.1/8' is not a tuple"),
        (changed(interface="veth"), "interface: 'veth' is none of"),
        (changed(labels=[]), "labels: [] is not a Mapping"),
        (changed(ips=["10.0.0.1/8", "x"]), "ips: 'x' is no address"),
        (changed(netns="/run/\0"), "netns: '/run/\\x00' is no name of anything"),
        (changed(netns="\ud800"), "is no name of anything"),
        (changed(netconf={"ipam": None}), "netconf.ipam: None is no object"),
        (changed(netconf={"ipam": ["dhcp"]}), "netconf.ipam: ['dhcp'] is no object"),
        (changed(netconf={"ipam": "dhcp"}), "netconf.ipam: 'dhcp' is no object"),
        (changed(ifname="eth1"), "is the record of pods@c1@eth1.json, under another name"),
    ],
)
def test_an_unreadable_record_is_put_away(
    content: bytes, reason: str, state: StateDir, tmp_path: Path
) -> None:
    state.save(FULL)
    path = tmp_path / "state" / "attachments" / "pods@c1@eth0.json"
    path.write_bytes(content)
    path.chmod(0o644)
    attachments, quarantined = state.load_all()
    assert attachments == [FULL]
    assert not path.exists()
    [(where, why)] = quarantined
    assert mode(where) == 0o600
    assert where.read_bytes() == content
    assert where.parent == tmp_path / "state" / "quarantine"
    assert why.startswith("pods@c1@eth0.json: ")
    assert reason in why
    path.write_bytes(content)
    assert state.load_all()[1][0].path.name == "pods@c1@eth0.json.1"
    assert state.load_all()[1] == []


def test_a_half_written_file_is_removed(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "state" / "attachments" / ".writing-pods@c1@eth0.json").write_bytes(b"{")
    assert state.load_all() == ([], [])
    assert records(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_the_last_record(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.save(PLAIN)

    def no_space(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", no_space)
        with pytest.raises(StateError, match=r"pods@c1@eth0\.json: No space left.*; free space"):
            state.save(replace(PLAIN, mtu=9000))
    assert state.get(PLAIN.key) == PLAIN
    assert len(records(tmp_path)) == 1
    assert StateDir(tmp_path / "state").load_all() == ([PLAIN], [])


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system of its own needs root")
    try:
        state = StateDir(folder)
        state.save(PLAIN)
        with pytest.raises(StateError, match="No space left on device; free space there"):
            state.save(replace(FULL, netconf={"name": "x" * 100_000}))
        assert state.load_all() == ([PLAIN], [])
        assert len(list((folder / "attachments").iterdir())) == 1
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot make the state folder .*: Not a directory"):
        StateDir(tmp_path / "file" / "state")


def test_threads_do_not_disturb_each_other(state: StateDir, tmp_path: Path) -> None:
    def churn(number: int) -> None:
        for turn in range(20):
            mine = replace(PLAIN, container_id=f"c{number}-{turn}")
            state.save(mine)
            assert state.get(mine.key) == mine
            if turn % 2:
                state.delete(mine.key)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    attachments, quarantined = StateDir(tmp_path / "state").load_all()
    assert len(attachments) == 80
    assert quarantined == []


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_put_away(
    make: Callable[[Path], None], state: StateDir, tmp_path: Path
) -> None:
    make(tmp_path / "state" / "attachments" / "x.json")
    [(where, why)] = state.load_all()[1]
    assert where == tmp_path / "state" / "quarantine" / "x.json"
    assert why in (
        "x.json: is no regular file",
        f"x.json: cannot be read: {os.strerror(errno.ELOOP)}",
    )


def test_what_a_newer_agent_has_added_is_kept(state: StateDir, tmp_path: Path) -> None:
    state.save(PLAIN)
    (path,) = records(tmp_path)
    path.write_bytes(changed(vlan=7, policy={"deny": ["all"]}))
    ((found,), quarantined) = state.load_all()
    assert quarantined == []
    assert found.newer == {"vlan": 7, "policy": {"deny": ["all"]}}
    assert replace(found, newer={}) == PLAIN
    state.save(replace(found, mtu=9000))
    assert json.loads(path.read_text()).items() >= found.newer.items()


def test_half_a_record_is_none_whatever_is_missing(state: StateDir, tmp_path: Path) -> None:
    state.save(FULL)
    (path,) = records(tmp_path)
    content = path.read_bytes()
    for size in range(len(content) - 1):
        path.write_bytes(content[:size])
        attachments, quarantined = state.load_all()
        assert (attachments, len(quarantined)) == ([], 1)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_a_damaged_record_is_put_away_or_can_be_worked_with(at: int, damage: bytes) -> None:
    content = json.dumps(FULL.to_json()).encode()
    at = min(at, len(content))
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir(folder)
        Path(folder, "attachments", file_name(FULL)).write_bytes(
            content[:at] + damage + content[at + len(damage) :]
        )
        attachments, quarantined = state.load_all()
        assert len(attachments) + len(quarantined) == 1
        masquerade.elements({each.key: tuple(map(ip_interface, each.ips)) for each in attachments})


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
ADDRESSES = st.ip_addresses().map("{}/9".format)


@given(
    st.builds(
        Attachment,
        **dict.fromkeys(("name", "network", "container_id", "ifname"), NAMES),
        ips=st.lists(ADDRESSES).map(tuple),
        gateways=st.lists(ADDRESSES).map(tuple),
        newer=st.dictionaries(st.text().map("newer-{}".format), st.text()),
        labels=st.dictionaries(st.text(), st.text()),
        result=st.dictionaries(st.text(), st.integers()),
        netconf=st.dictionaries(st.text(), st.text()),
        created_s=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_every_attachment_reads_back(attachment: Attachment) -> None:
    written = json.dumps(attachment.to_json())
    assert Attachment.from_json(json.loads(written)) == attachment
