"""The VM is what the other tests take it for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.outside import Outside, OutsideError
from tests.vm.wire import NICS, Nic


def test_commands_run_outside(outside: Outside) -> None:
    assert "out0" in outside.run("ip", "-brief", "link")
    with outside.running("sh", "-c", "echo a; echo b; exec sleep 60") as process:
        assert (process.line(), process.line()) == ("a\n", "b\n")
    with pytest.raises(OutsideError, match="FileNotFoundError"):
        outside.run("no-such-command")


def test_vhost_net_is_there() -> None:
    assert Path("/dev/vhost-net").is_char_device()


@pytest.mark.parametrize("nic", NICS, ids=lambda nic: nic.model)
def test_nic_is_behind_an_iommu(nic: Nic) -> None:
    assert Path("/sys/bus/pci/devices", nic.pci_address, "iommu_group").exists()
