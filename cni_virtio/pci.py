"""PCI network devices as sysfs shows them: which driver has each, and giving it another."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

VFIO: Final = "vfio-pci"
FOR_DPDK: Final = (VFIO, "uio_pci_generic", "igb_uio")
SYSFS: Final = Path("/sys")
RECORDS: Final = Path("/run/cni-virtio/pci")
_NETWORK_CLASS: Final = "0x02"
_ADDRESS: Final = re.compile(r"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_HARMLESS: Final = (None, *FOR_DPDK, "pci-stub", "pcieport")
_MODPROBE_S: Final = 60.0
_STANDS_FOR_NO_GROUP: Final = "vfio-noiommu"


class PciError(Exception):
    """A device cannot be given another driver; the text says why and what to do."""


@dataclass(frozen=True)
class Nic:
    """One PCI network device. `interfaces` are the kernel's of this namespace, by name.

    It is in no `iommu_group` either while VFIO has it in no-IOMMU mode.
    """

    address: str
    vendor: str
    device: str
    driver: str | None
    interfaces: tuple[str, ...] = ()
    iommu_group: str | None = None

    @property
    def for_dpdk(self) -> bool:
        """Whether a driver has it through which DPDK can use it."""
        return self.driver in FOR_DPDK

    @property
    def iommu_fault(self) -> str:
        """Why vfio-pci must not have it, and what to do, as `REASON: REMEDY`; "" if it may."""
        if self.iommu_group is not None:
            return ""
        return (
            "is in no IOMMU group, and VFIO's no-IOMMU mode will not do, as it takes CAP_SYS_RAWIO,"
            " which the dataplane gives up: switch VT-d or AMD-Vi on in the firmware and boot with"
            " intel_iommu=on; in a VM, give it a virtual IOMMU"
        )


def normal(text: str) -> str:
    """Write an address with its domain, in small letters. Raises PciError if it is none."""
    if not _ADDRESS.fullmatch(text):
        raise PciError(f"{text!r} is not a PCI address such as 0000:3b:00.0")
    return text.lower() if text.count(":") == 2 else f"0000:{text.lower()}"


def read(device: Path) -> Nic:
    """Read a device's folder of sysfs, whatever class it is of."""
    driver = device / "driver"
    return Nic(
        address=device.name,
        vendor=_word(device / "vendor"),
        device=_word(device / "device"),
        driver=driver.resolve().name if driver.exists() else None,
        # virtio's interface is one step further down, below its own bus.
        interfaces=tuple(sorted({p.name for at in ("net/*", "*/net/*") for p in device.glob(at)})),
        iommu_group=_group(device / "iommu_group"),
    )


def _group(link: Path) -> str | None:
    if not link.exists() or _word(link / "name") == _STANDS_FOR_NO_GROUP:
        return None
    return link.resolve().name


def nics(devices: Path = SYSFS / "bus/pci/devices") -> list[Nic]:
    """Return the machine's PCI network devices by address."""
    found = sorted(devices.iterdir()) if devices.is_dir() else []
    return [read(each) for each in found if _word(each / "class").startswith(_NETWORK_CLASS)]


@dataclass(frozen=True)
class Binder:
    """Takes devices from their kernel drivers for vfio-pci, and gives them back."""

    sysfs: Path = SYSFS
    records: Path = RECORDS
    dev: Path = Path("/dev")
    modprobe: tuple[str, ...] = field(default=("modprobe",))

    def find(self, text: str) -> Nic:
        """Return the network device of an address. Raises PciError."""
        address = normal(text)
        known = nics(self._bus / "devices")
        for nic in known:
            if nic.address == address:
                return nic
        if (self._bus / "devices" / address).exists():
            raise PciError(f"{address} is not a network device: see cni-virtioctl uplink list")
        have = ", ".join(nic.address for nic in known) or "none"
        raise PciError(f"there is no PCI device {address}; network devices are: {have}")

    def bind(self, nic: Nic) -> bool:
        """Give a device to vfio-pci; False if it has it. Raises PciError, all as before then.

        That nobody needs its interfaces is the caller's to know.
        """
        if nic.driver == VFIO and not nic.iommu_fault:
            return False
        self._load(VFIO)
        self._check_iommu(nic)
        if nic.driver is not None and not nic.for_dpdk:
            self._remember(nic)
        self._write(nic.address, "driver_override", VFIO)
        self._unbind(nic)
        self._probe(nic.address)
        now = self.find(nic.address).driver
        if now != VFIO:
            self._restore(nic.address, nic.driver)
            reason = "vfio-pci did not take it: see dmesg for its words"
            raise PciError(f"{nic.address}: {reason}")
        return True

    def unbind(self, nic: Nic) -> str | None:
        """Give a device back to its kernel driver, which is returned. Raises PciError."""
        if nic.driver is not None and not nic.for_dpdk:
            return nic.driver
        old = self._remembered(nic.address)
        self._write(nic.address, "driver_override", "")
        self._unbind(nic)
        self._restore(nic.address, old)
        now = self.find(nic.address).driver
        if now is None or now in FOR_DPDK:
            wanted = f"{old} did not take it back" if old else "no kernel driver takes it"
            raise PciError(f"{nic.address}: {wanted}: see dmesg for its words")
        self._record(nic.address).unlink(missing_ok=True)
        return now

    def in_use(self, nic: Nic) -> bool:
        """Tell whether a process, such as a dataplane, has the device open through vfio-pci."""
        if nic.driver != VFIO or nic.iommu_group is None:
            return False
        try:
            os.close(os.open(self.dev / "vfio" / nic.iommu_group, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    @property
    def _bus(self) -> Path:
        return self.sysfs / "bus/pci"

    def _check_iommu(self, nic: Nic) -> None:
        """Raise PciError where vfio-pci would not take a device, or not hand it to DPDK."""
        if nic.iommu_fault:
            raise PciError(f"{nic.address} {nic.iommu_fault}")
        members = self._bus / "devices" / nic.address / "iommu_group" / "devices"
        others = [read(each) for each in sorted(members.iterdir()) if each.name != nic.address]
        busy = [each for each in others if each.driver not in _HARMLESS]
        if busy:
            named = ", ".join(f"{each.address} (driver {each.driver})" for each in busy)
            raise PciError(
                f"{nic.address} shares IOMMU group {nic.iommu_group} with {named}: DPDK can have"
                " all of a group or none; unbind those first or use another slot"
            )

    def _load(self, module: str) -> None:
        if (self._bus / "drivers" / module).exists():
            return
        try:
            done = subprocess.run(
                [*self.modprobe, module],
                capture_output=True,
                text=True,
                timeout=_MODPROBE_S,
                check=False,
            )
            said = done.stderr.strip().splitlines()
        except (OSError, subprocess.TimeoutExpired) as error:
            said = [str(error)]
        if not (self._bus / "drivers" / module).exists():
            reason = said[-1] if said else "the kernel has no such driver"
            raise PciError(f"driver {module} is not there: modprobe {module}: {reason}")

    def _unbind(self, nic: Nic) -> None:
        if nic.driver is not None:
            driver = self._bus / "devices" / nic.address / "driver"
            _put(driver / "unbind", nic.address, f"take {nic.address} from driver {nic.driver}")

    def _probe(self, address: str) -> None:
        # What the drivers say of it is seen by which of them has it afterwards.
        with contextlib.suppress(PciError):
            _put(self._bus / "drivers_probe", address, f"find a driver for {address}")

    def _restore(self, address: str, driver: str | None) -> None:
        self._write(address, "driver_override", "")
        if driver is not None and driver not in FOR_DPDK:
            with contextlib.suppress(PciError):
                self._load(driver)
        self._probe(address)
        if driver is not None and read(self._bus / "devices" / address).driver is None:
            with contextlib.suppress(PciError):
                bind = self._bus / "drivers" / driver / "bind"
                _put(bind, address, f"give {address} back to {driver}")

    def _write(self, address: str, name: str, value: str) -> None:
        file = self._bus / "devices" / address / name
        _put(file, f"{value}\n", f"write {value!r} to {name} of {address}")

    def _record(self, address: str) -> Path:
        return self.records / address

    def _remember(self, nic: Nic) -> None:
        try:
            self.records.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = {"driver": nic.driver, "interfaces": list(nic.interfaces)}
            self._record(nic.address).write_text(json.dumps(kept), "utf-8")
        except OSError as error:
            raise PciError(f"cannot write {self._record(nic.address)}: {error.strerror}") from None

    def _remembered(self, address: str) -> str | None:
        try:
            kept: Any = json.loads(self._record(address).read_text("utf-8"))
            return str(kept["driver"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _word(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _put(file: Path, text: str, what: str) -> None:
    try:
        file.write_text(text, "ascii")
    except OSError as error:
        raise PciError(f"cannot {what}: {error.strerror}") from None
