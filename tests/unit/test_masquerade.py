"""Which elements the sets hold; nft and real traffic are in the smoke tests."""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni_virtio import masquerade
from cni_virtio.masquerade import Addresses, Masquerade, MasqueradeError, elements, table_name
from cni_virtio.state import Attachment, Key


def key(name: str) -> Key:
    return Key(name, "eth0")


def ips(*texts: str) -> Addresses:
    return tuple(ip_interface(text) for text in texts)


def attachment(name: str, *addresses: str, **more: Any) -> Attachment:
    return Attachment("pods", "pods", name, "eth0", ips=addresses, ip_masq=True, **more)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What nft is told."""
    lines: list[str] = []
    monkeypatch.setattr(masquerade, "_nft", lines.append)
    return lines


def test_an_address_and_its_subnet() -> None:
    assert elements({key("c1"): ips("10.1.2.3/16", "fd00::7/64")}) == {
        ("sources4", "10.1.2.3"): "c1/eth0",
        ("local4", "10.1.2.3 . 10.1.0.0/16"): "",
        ("sources6", "fd00::7"): "c1/eth0",
        ("local6", "fd00::7 . fd00::/64"): "",
    }


def test_subnets_of_one_address_do_not_overlap() -> None:
    found = elements({key("c1"): ips("10.1.2.3/24"), key("c2"): ips("10.1.2.3/16")})
    assert found == {("sources4", "10.1.2.3"): "c1/eth0", ("local4", "10.1.2.3 . 10.1.0.0/16"): ""}


def test_a_comment_ends_where_nft_ends_it() -> None:
    found = elements({Key("c" * 200, 'e"th0'): ips("10.1.2.3/24")})
    assert found[masquerade.Element("sources4", "10.1.2.3")] == "c" * 128


def test_only_what_changes_is_told(told: list[str]) -> None:
    one = Masquerade(Path("/run/cni-virtio/state"))
    one.add(attachment("a", "10.1.0.2/16"))
    told.clear()
    one.add(attachment("b", "10.1.0.3/16"))
    assert told.pop().splitlines() == [
        'add element inet cni_virtio sources4 { 10.1.0.3 comment "b/eth0" }',
        "add element inet cni_virtio local4 { 10.1.0.3 . 10.1.0.0/16 }",
    ]
    one.remove(key("b"))
    assert told.pop().splitlines() == [
        "delete element inet cni_virtio sources4 { 10.1.0.3 }",
        "delete element inet cni_virtio local4 { 10.1.0.3 . 10.1.0.0/16 }",
    ]
    one.remove(key("b"))
    assert told == []
    one.remove(key("a"))
    assert told.pop().endswith("delete table inet cni_virtio")


def test_an_address_that_another_has_too_stays(told: list[str]) -> None:
    one = Masquerade(Path("/run/cni-virtio/state"))
    for name in "abc":
        one.add(attachment(name, "10.1.0.2/16"))
    told.clear()
    one.remove(key("a"))
    assert told == []


def test_who_does_not_ask_or_has_no_address_is_left_alone(told: list[str]) -> None:
    one = Masquerade(Path("/run/cni-virtio/state"))
    one.add(attachment("a"))
    one.add(Attachment("pods", "pods", "b", "eth0", ips=("10.1.0.2/16",)))
    assert told == []


def test_a_refused_one_is_wanted_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Masquerade(Path("/run/cni-virtio/state"))
    monkeypatch.setattr("cni_virtio.masquerade.shutil.which", lambda *_, **__: None)
    with pytest.raises(MasqueradeError, match="the program nft is missing: install nftables"):
        one.add(attachment("a", "10.1.0.2/16"))
    one.remove(key("a"))
    one.sync(list)


def test_agents_of_one_machine_have_tables_of_their_own() -> None:
    names = {table_name(Path(path)) for path in ("/run/cni-virtio/state", "/a", "/b")}
    assert len(names) == 3
    assert table_name(Path("/run/cni-virtio/state")) == "cni_virtio"
