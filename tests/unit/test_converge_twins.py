"""Uplinks and their twins, brought to a dataplane that is played."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from cni_virtio.config import AgentConfig, load
from cni_virtio.converge import Converger
from cni_virtio.state import Attachment
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.wire import NetworkSpec, PortSpec

YAML = """
dataplane: {backend: tap}
uplinks:
  - {name: used, device: net_null0, exception: {name: twin0}}
  - {name: loose, device: net_null1, exception: {}}
networks:
  - {name: pods, uplink: used}
"""
MACS = {"uplink:used": "02:00:00:00:00:01", "uplink:loose": "02:00:00:00:00:02"}


class Dataplane:
    """A dataplane with ports and networks, and a list of what it was told."""

    def __init__(self) -> None:
        self.ports_there: dict[str, PortSpec] = {}
        self.networks_there: dict[str, NetworkSpec] = {}
        self.told: list[str] = []
        self.broken: set[str] = set()

    def ports(self, name: str | None = None) -> dict[str, Any]:
        chosen = [spec for spec in self.ports_there.values() if name in (None, spec.name)]
        return {
            "ports": [
                {"spec": spec.to_json(), "state": {"mac": MACS.get(spec.name, "")}}
                for spec in chosen
            ]
        }

    def networks(self) -> dict[str, Any]:
        return {"networks": [{"spec": spec.to_json()} for spec in self.networks_there.values()]}

    def network_add(self, spec: NetworkSpec) -> None:
        self.told.append(f"+{spec.name}")
        self.networks_there[spec.name] = spec

    def port_add(self, spec: PortSpec, fds: list[int], _meanwhile: object) -> None:
        if spec.name in self.broken:
            raise DataplaneError("no_resource", "out of luck", None)
        assert spec.uplink is None or spec.uplink in self.ports_there
        self.told.append(f"+{spec.name}")
        self.ports_there[spec.name] = spec

    def hold(self, _ms: int) -> None:
        """Have nothing to hold."""

    def port_fds(self, _name: str) -> list[int]:
        return []

    def port_del(self, name: str) -> None:
        self.told.append(f"-{name}")
        del self.ports_there[name]


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    file = tmp_path / "agent.yaml"
    file.write_text(YAML)
    return load(file)


def converger(config: AgentConfig, dataplane: Dataplane, *attachments: Attachment) -> Converger:
    wanted = Wanted(config)
    for each in attachments:
        wanted.add(each)

    def seen(spec: PortSpec, state: dict[str, Any]) -> None:
        wanted.learn_uplink(spec, state["mac"])

    return Converger(cast("DataplaneClient", dataplane), wanted, lambda _: [], seen)


def test_twins_come_after_their_uplinks_with_the_mac_found_there(config: AgentConfig) -> None:
    dataplane = Dataplane()
    one = converger(config, dataplane)
    one.online()
    assert dataplane.told == [
        "+uplink:used",
        "+pods",
        "+uplink:loose",
        "+exception:used",
        "+exception:loose",
    ]
    assert dataplane.ports_there["exception:used"].mac == MACS["uplink:used"]
    assert dataplane.ports_there["exception:loose"].mac == MACS["uplink:loose"]
    assert one.failures == {}
    dataplane.told.clear()
    one.doubt()
    one.recover()
    assert dataplane.told == []


def test_containers_of_a_network_without_uplink_wait_for_no_nic(config: AgentConfig) -> None:
    dataplane = Dataplane()
    containers = [Attachment("x", network, network, "eth0") for network in ("pods", "quiet")]
    converger(config, dataplane, *containers).online()
    assert dataplane.told == [
        "+quiet",
        "+pod:quiet/eth0",
        "+uplink:used",
        "+pods",
        "+uplink:loose",
        "+exception:used",
        "+exception:loose",
        "+pod:pods/eth0",
    ]


def test_a_port_that_is_not_wanted_goes_unless_it_is_spared(config: AgentConfig) -> None:
    dataplane = Dataplane()
    macs = {"gone": "02:00:00:00:01:01", "half": "02:00:00:00:01:02"}
    former = [Attachment("x", "pods", name, "eth0", mac=mac) for name, mac in macs.items()]
    converger(config, dataplane, *former).online()
    dataplane.told.clear()
    one = converger(config, dataplane)
    one.spared = {"pod:half/eth0"}
    one.online()
    assert dataplane.told == ["-pod:gone/eth0"]
    one.withdraw("pods", ["pod:half/eth0"])
    assert dataplane.told == ["-pod:gone/eth0", "-pod:half/eth0"]


def test_a_spared_port_that_is_withdrawn_without_a_dataplane_goes_later(
    config: AgentConfig,
) -> None:
    dataplane = Dataplane()
    half = Attachment("x", "pods", "half", "eth0", mac="02:00:00:00:01:02")
    converger(config, dataplane, half).online()
    dataplane.told.clear()
    one = converger(config, dataplane)
    one.spared = {"pod:half/eth0"}
    with pytest.raises(DataplaneUnavailable):
        one.withdraw("pods", ["pod:half/eth0"])
    one.online()
    assert dataplane.told == ["-pod:half/eth0"]


def test_an_agent_that_finds_twins_leaves_them_alone(config: AgentConfig) -> None:
    dataplane = Dataplane()
    converger(config, dataplane).online()
    dataplane.told.clear()
    converger(config, dataplane).online()
    assert dataplane.told == []


def test_a_twin_that_fails_holds_up_nothing_and_is_tried_again(config: AgentConfig) -> None:
    dataplane = Dataplane()
    dataplane.broken = {"exception:used"}
    one = converger(config, dataplane)
    one.online()
    assert "+exception:loose" in dataplane.told
    assert one.failures == {"exception:used": "out of luck"}
    dataplane.broken.clear()
    one.recover()
    assert dataplane.told[-1] == "+exception:used"
    assert one.failures == {}


def test_a_twin_waits_for_an_uplink_that_fails(config: AgentConfig) -> None:
    dataplane = Dataplane()
    dataplane.broken = {"uplink:loose"}
    one = converger(config, dataplane)
    one.online()
    assert one.failures == {
        "uplink:loose": "out of luck",
        "exception:loose": "waits for its uplink",
    }
    dataplane.broken.clear()
    one.recover()
    assert dataplane.told[-2:] == ["+uplink:loose", "+exception:loose"]
    assert one.failures == {}


def test_a_port_that_is_not_there_is_not_asked_for(config: AgentConfig) -> None:
    dataplane = Dataplane()
    one = converger(config, dataplane)
    assert one.known_port("uplink:used") is None
    one.online()
    port = one.known_port("uplink:used")
    assert port is not None
    assert port["state"]["mac"] == MACS["uplink:used"]
    assert one.known_port("uplink:other") is None


def test_it_remembers_for_a_while_that_there_was_no_room(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataplane = Dataplane()
    one = converger(config, dataplane)
    one.online()
    assert one.shortage.reason == ""
    dataplane.broken.add("uplink:used")
    dataplane.ports_there.pop("uplink:used")
    one.doubt()
    one.recover()
    assert one.shortage.reason == "out of luck"
    monkeypatch.setattr("cni_virtio.shortage._HOLDS_S", 0.0)
    assert one.shortage.reason == ""
    monkeypatch.undo()
    dataplane.broken.clear()
    one.recover()
    assert one.shortage.reason == ""
