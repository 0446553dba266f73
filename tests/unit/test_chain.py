"""Results of earlier plugins, merged with ours."""

from __future__ import annotations

from typing import Any

import pytest

from cni_virtio.chain import merged
from cni_virtio.spec import SUPPORTED_VERSIONS, Result

OURS = {
    "interfaces": [{"name": "eth0", "sandbox": "/ns", "mtu": 1500}, {"name": "cv-pods"}],
    "ips": [
        {"address": "10.1.0.2/16", "interface": 0},
        {"address": "10.1.0.3/16"},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
    "dns": {"nameservers": ["10.1.0.1"], "domain": "ours", "options": ["ndots:1"]},
}


def test_of_nothing_it_is_ours() -> None:
    ours = Result.from_json(OURS)
    assert merged(Result(), ours) == ours


def test_theirs_come_first_and_our_indexes_move() -> None:
    theirs = {
        "interfaces": [{"name": "a"}, {"name": "b"}, {"name": "c"}],
        "ips": [{"address": "192.0.2.1/24", "interface": 2}],
        "routes": [{"dst": "192.0.2.0/24"}, {"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        "dns": {"nameservers": ["192.0.2.9", "10.1.0.1"], "domain": "theirs", "search": ["x"]},
    }
    found = merged(Result.from_json(theirs), Result.from_json(OURS))
    assert [each.name for each in found.interfaces] == ["a", "b", "c", "eth0", "cv-pods"]
    assert [ip.interface for ip in found.ips] == [2, 3, None]
    assert [str(route.dst) for route in found.routes] == ["192.0.2.0/24", "0.0.0.0/0"]
    assert found.dns.to_json() == {
        "nameservers": ["192.0.2.9", "10.1.0.1"],
        "domain": "theirs",
        "search": ["x"],
        "options": ["ndots:1"],
    }


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_the_shape_is_that_of_the_version_whatever_came(version: str) -> None:
    theirs: dict[str, Any] = {
        "cniVersion": "0.3.1",
        "interfaces": [{"name": "a", "mtu": 9000}],
        "ips": [{"version": "4", "address": "192.0.2.1/24", "interface": 0}],
    }
    out = merged(Result.from_json(theirs), Result.from_json(OURS)).to_json(version)
    assert out["cniVersion"] == version
    assert ["version" in ip for ip in out["ips"]] == [version < "1"] * 3
    assert ["mtu" in each for each in out["interfaces"][:2]] == [version >= "1.1"] * 2
