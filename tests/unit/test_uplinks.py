"""What is said of an uplink's device, once."""

from __future__ import annotations

import logging

import pytest

from cni_virtio.uplinks import Shortcomings
from dataplane.wire import EthdevSpec, PortSpec

ALL = {"rx_checksum": True, "tx_checksum": True, "tso": True, "lro": True}


def uplink(**offloads: bool) -> PortSpec:
    return PortSpec(
        "uplink:w", kind="ethdev", role="uplink", ethdev=EthdevSpec("net_null0", ALL | offloads)
    )


@pytest.mark.parametrize(
    ("off", "effective", "lacking"),
    [
        ({}, ["rx_checksum", "tx_checksum", "tso4", "tso6", "lro"], ""),
        ({}, ["rx_checksum", "tx_checksum", "tso4", "tso6"], "lro"),
        ({"lro": False}, ["rx_checksum", "tx_checksum", "tso4", "tso6"], ""),
        ({}, ["rx_checksum", "tx_checksum", "tso4", "lro"], "tso"),
        ({"rx_checksum": False}, [], "tx_checksum, tso, lro"),
    ],
)
def test_what_is_wanted_and_lacking(
    off: dict[str, bool], effective: list[str], lacking: str
) -> None:
    found = Shortcomings()
    found.see(uplink(**off), {"offloads": effective, "driver": "net_x"})
    text = f"uplink w: its device (net_x) lacks {lacking}; the dataplane makes up for it"
    assert found.messages() == ([text] if lacking else [])


def test_it_is_logged_once_however_often_it_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = Shortcomings()
    for _ in range(3):
        found.see(uplink(), {"offloads": []})
    assert len(caplog.records) == 1
    found.see(uplink(), {"offloads": ["rx_checksum", "tx_checksum", "tso4", "tso6", "lro"]})
    assert found.messages() == []
