"""STATUS on a node that is played: what it has run out of, and how CHECK waits."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cni_virtio import check as checks
from cni_virtio import netconf
from cni_virtio.node import Node
from cni_virtio.readiness import check_ready
from cni_virtio.shortage import Shortage
from cni_virtio.spec import CniError, Request
from cni_virtio.state import Attachment
from dataplane.client import DataplaneError, DataplaneUnavailable

CONF = netconf.parse(
    json.dumps({"cniVersion": "1.1.0", "name": "pods", "type": "cni-virtio"}).encode()
)
STATUS = Request.parse({"CNI_COMMAND": "STATUS"}, b"")


@dataclass
class Converger:
    """Answers as the converger does."""

    failures: dict[str, str] = field(default_factory=dict)
    shortage: Shortage = field(default_factory=Shortage)
    port_count: int = 3
    in_use: int = 1
    refusal: Exception | None = None
    asked: int = 0

    def wait_online(self, _: float) -> bool:
        return True

    def dataplane(self) -> dict[str, Any]:
        return {"max_ports": 4, "memory": {"pools": {"std": {"size": 9, "in_use": self.in_use}}}}

    def port(self, _: str) -> dict[str, Any]:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return {}


class Wanted:
    """Declares nothing and has nothing."""

    def declared(self, _: str) -> None:
        return None


@dataclass
class Played:
    converger: Converger
    wanted: Wanted = field(default_factory=Wanted)


def node(**keys: Any) -> Node:
    return cast("Node", Played(Converger(**keys)))


def short(reason: str) -> Shortage:
    one = Shortage()
    one.note(reason)
    return one


def test_all_is_well() -> None:
    check_ready(node(), STATUS, CONF)


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ({"failures": {"pods": "no uplink"}}, 51, "pods: no uplink"),
        ({"port_count": 4}, 50, "the dataplane has 4 ports, and takes no more"),
        ({"in_use": 9}, 51, "all 9 buffers of pool std are in use: raise dataplane.memory"),
    ],
)
def test_status_names_what_is_lacking(keys: dict[str, Any], code: int, said: str) -> None:
    with pytest.raises(CniError) as caught:
        check_ready(node(**keys), STATUS, CONF)
    assert caught.value.code == code
    assert said in caught.value.msg


def test_status_names_what_a_port_found_no_room_for() -> None:
    with pytest.raises(CniError, match="takes no more ports: raise memory") as caught:
        check_ready(node(shortage=short("raise memory")), STATUS, CONF)
    assert caught.value.code == 50


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (DataplaneUnavailable("the dataplane is down"), 11),
        (DataplaneError("not_found", "there is no such port"), 103),
    ],
)
def test_check_looks_again_before_it_gives_up(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception, code: int
) -> None:
    monkeypatch.setattr(checks, "_CONVERGENCE_S", 0.3)
    played = Converger(refusal=refusal)
    attachment = Attachment("pods", "pods", "c1", "eth0", interface="vhost-user")
    started_s = time.monotonic()
    with pytest.raises(CniError) as caught:
        checks._once_converged(
            lambda: checks._check_port(cast("Node", Played(played)), STATUS, attachment)
        )
    assert caught.value.code == code
    assert played.asked > 2
    assert time.monotonic() - started_s >= 0.3


def test_status_misses_nft_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cni_virtio.masquerade.shutil.which", lambda *_, **__: None)
    check_ready(node(), STATUS, CONF)
    with pytest.raises(CniError, match="install nftables") as caught:
        check_ready(node(), STATUS, replace(CONF, ip_masq=True))
    assert caught.value.code == 50
