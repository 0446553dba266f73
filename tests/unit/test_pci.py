"""PCI network devices: read from sysfs, given to vfio-pci and back. The kernel is played."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from click.testing import CliRunner

from cni_virtio import pci
from cni_virtio.ctl.cli import cli
from cni_virtio.pci import Binder, PciError

NIC = "0000:00:03.0"
CHIPSET = "0000:00:1f.0"


class Sysfs:
    """A machine's /sys, and what a kernel does when somebody writes into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bus = root / "bus/pci"
        self.refuses: set[str] = set()
        (self.bus / "devices").mkdir(parents=True)
        for driver in ("e1000e", "vfio-pci"):
            (self.bus / "drivers" / driver).mkdir(parents=True)
        self.binder = Binder(root, root / "records", root / "dev", ("false",))

    def add(
        self, address: str, driver: str | None, group: str = "7", class_: str = "020000"
    ) -> None:
        folder = self.bus / "devices" / address
        folder.mkdir()
        for name, text in (("class", f"0x{class_}"), ("vendor", "0x8086"), ("device", "0x10d3")):
            (folder / name).write_text(f"{text}\n")
        (folder / "driver_override").write_text("(null)\n")
        if group:
            members = self.root / "kernel/iommu_groups" / group / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(folder)
            (folder / "iommu_group").symlink_to(members.parent)
        self.take(address, driver)

    def take(self, address: str, driver: str | None) -> None:
        """Let a driver have a device, or none."""
        folder = self.bus / "devices" / address
        (folder / "driver").unlink(missing_ok=True)
        if (folder / "net").exists():
            (folder / "net" / "ens3").rmdir()
            (folder / "net").rmdir()
        if driver is not None:
            (folder / "driver").symlink_to(self.bus / "drivers" / driver)
        if driver == "e1000e":
            (folder / "net" / "ens3").mkdir(parents=True)

    def put(self, file: Path, text: str, what: str) -> None:
        """Stand in for a write to a file of sysfs."""
        text = text.strip()
        if file.name == "driver_override":
            file.write_text(f"{text}\n")
        elif file.name == "unbind":
            self.take(text, None)
        elif file.name == "drivers_probe":
            device = self.bus / "devices" / text
            chosen = (device / "driver_override").read_text().strip() or "e1000e"
            if chosen not in self.refuses:
                self.take(text, chosen)
        elif file.name == "bind":
            self.take(text, file.parent.name)
        else:
            raise PciError(f"cannot {what}: {errno.errorcode[errno.ENOENT]}")


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    machine = Sysfs(tmp_path)
    monkeypatch.setattr(pci, "_put", machine.put)
    return machine


def test_network_devices_by_address_with_what_has_them(sysfs: Sysfs) -> None:
    sysfs.add("0000:00:04.0", "vfio-pci")
    sysfs.add(NIC, "e1000e")
    sysfs.add(CHIPSET, None, class_="060100")
    nic, other = pci.nics(sysfs.bus / "devices")
    assert nic == pci.Nic(NIC, "0x8086", "0x10d3", "e1000e", ("ens3",), "7")
    assert (nic.for_dpdk, other.for_dpdk) == (False, True)
    assert pci.nics(sysfs.root / "none") == []


def test_virtios_interface_is_found_below_its_own_bus(sysfs: Sysfs) -> None:
    sysfs.add(NIC, None)
    (sysfs.bus / "devices" / NIC / "virtio0/net/enp1s0").mkdir(parents=True)
    assert pci.nics(sysfs.bus / "devices")[0].interfaces == ("enp1s0",)


def test_there_and_back(sysfs: Sysfs) -> None:
    sysfs.add(NIC, "e1000e")
    binder = sysfs.binder
    assert binder.bind(binder.find("00:03.0"))
    assert binder.find(NIC).driver == "vfio-pci"
    assert not binder.bind(binder.find(NIC))
    assert binder.unbind(binder.find(NIC)) == "e1000e"
    assert binder.find(NIC).interfaces == ("ens3",)
    assert (sysfs.bus / "devices" / NIC / "driver_override").read_text() == "\n"
    assert binder.unbind(binder.find(NIC)) == "e1000e"  # has it already
    assert not list((sysfs.root / "records").iterdir())


def test_a_device_that_vfio_does_not_take_is_back_where_it_was(sysfs: Sysfs) -> None:
    sysfs.add(NIC, "e1000e")
    sysfs.refuses.add("vfio-pci")
    with pytest.raises(PciError, match="vfio-pci did not take it"):
        sysfs.binder.bind(sysfs.binder.find(NIC))
    assert sysfs.binder.find(NIC).driver == "e1000e"


def test_a_driver_that_does_not_probe_is_asked_by_name(sysfs: Sysfs) -> None:
    sysfs.add(NIC, "e1000e")
    sysfs.binder.bind(sysfs.binder.find(NIC))
    sysfs.refuses.add("e1000e")  # when probed
    assert sysfs.binder.unbind(sysfs.binder.find(NIC)) == "e1000e"


@pytest.mark.parametrize("driver", ["e1000e", "vfio-pci", None])
@pytest.mark.parametrize("group", ["", "vfio-noiommu"])
def test_without_an_iommu_nothing_is_touched(sysfs: Sysfs, driver: str | None, group: str) -> None:
    sysfs.add(NIC, driver, group)
    if group:
        (sysfs.root / "kernel/iommu_groups" / group / "name").write_text(f"{group}\n")
    nic = sysfs.binder.find(NIC)
    with pytest.raises(PciError, match=rf"^{NIC} is in no IOMMU group, .*: .*intel_iommu=on"):
        sysfs.binder.bind(nic)
    assert sysfs.binder.find(NIC) == nic
    override = sysfs.bus / "devices" / NIC / "driver_override"
    assert override.read_text() == "(null)\n"


def test_a_nic_in_no_iommu_mode_can_be_given_back(sysfs: Sysfs) -> None:
    sysfs.add(NIC, "vfio-pci", group="")
    assert sysfs.binder.unbind(sysfs.binder.find(NIC)) == "e1000e"


def test_a_group_is_dpdks_as_a_whole_or_not_at_all(sysfs: Sysfs) -> None:
    sysfs.add(NIC, "e1000e")
    sysfs.add("0000:00:03.1", "e1000e")
    with pytest.raises(PciError, match=r"shares IOMMU group 7 with 0000:00:03.1 \(driver e1000e\)"):
        sysfs.binder.bind(sysfs.binder.find(NIC))
    sysfs.take("0000:00:03.1", None)
    assert sysfs.binder.bind(sysfs.binder.find(NIC))


def test_a_missing_driver_is_named(sysfs: Sysfs) -> None:
    sysfs.add(NIC, "e1000e")
    (sysfs.bus / "drivers/vfio-pci").rmdir()
    with pytest.raises(PciError, match="driver vfio-pci is not there: modprobe vfio-pci"):
        sysfs.binder.bind(sysfs.binder.find(NIC))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("eth0", "'eth0' is not a PCI address such as"),
        ("0000:00:09.0", f"there is no PCI device 0000:00:09.0; network devices are: {NIC}"),
        (CHIPSET, f"{CHIPSET} is not a network device"),
    ],
)
def test_what_is_no_nic(sysfs: Sysfs, address: str, reason: str) -> None:
    sysfs.add(NIC, "e1000e")
    sysfs.add(CHIPSET, None, class_="060100")
    with pytest.raises(PciError, match=reason):
        sysfs.binder.find(address)


def test_the_command_line_lists_and_refuses() -> None:
    assert CliRunner().invoke(cli, ["uplink", "list"]).exit_code == 0
    refused = CliRunner().invoke(cli, ["uplink", "bind", "nonsense"])
    assert refused.exit_code == 1
    assert "'nonsense' is not a PCI address" in refused.output
