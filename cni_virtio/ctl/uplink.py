"""`cni-virtioctl uplink`: PCI network devices, given to DPDK and back to the kernel."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cni_virtio import pci
from cni_virtio.ctl.tables import Column, print_table
from cni_virtio.ctl.ways import addresses_of, needed_for
from cni_virtio.pci import Binder, Nic, PciError

_STATE_DIR = Path("/run/cni-virtio/state")


@click.group()
def uplink() -> None:
    """PCI network devices: which driver has them, and giving them to DPDK and back."""


@uplink.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """Show the machine's PCI network devices."""
    found = [(nic, addresses_of(nic.interfaces)) for nic in pci.nics()]
    if as_json:
        shown = [vars(nic) | {"addresses": addresses} for nic, addresses in found]
        click.echo(json.dumps({"devices": shown}, indent=2))
        return
    if not found:
        click.echo("no PCI network devices")
        return
    columns = [
        Column("ADDRESS"),
        Column("DEVICE"),
        Column("DRIVER"),
        Column("INTERFACE"),
        Column("ADDRESSES"),
        Column("IOMMU", right=True),
    ]
    print_table(columns, [_row(nic, addresses) for nic, addresses in found])


@uplink.command()
@click.argument("address")
@click.option("--force", is_flag=True, help="Also if the way out of this machine is cut.")
def bind(address: str, force: bool) -> None:
    """Take the device ADDRESS from its kernel driver and give it to vfio-pci."""
    with _clear_errors():
        nic = Binder().find(address)
        reason = needed_for(nic.interfaces, os.environ.get("SSH_CONNECTION", ""))
        addresses = [each for each in addresses_of(nic.interfaces) if not _is_link_local(each)]
        if reason and not force:
            raise PciError(f"{nic.address}: {reason}; to take it nevertheless: --force")
        taken = Binder().bind(nic)
    if not taken:
        click.echo(f"{nic.address} is bound to vfio-pci already")
        return
    was = f", was {nic.driver} ({', '.join(nic.interfaces) or 'no interface'})"
    click.echo(f"{nic.address} is bound to vfio-pci{was if nic.driver else ''}")
    if addresses:
        had = ", ".join(addresses)
        click.echo(f"gone with its interface: {had} and the routes; put them on its twin")


@uplink.command()
@click.argument("address")
@click.option("--force", is_flag=True, help="Wait for a dataplane that has it to let go.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=_STATE_DIR,
    show_default=True,
    help="The agent's agent.state_dir, with its record of exception paths.",
)
def unbind(address: str, force: bool, state_dir: Path) -> None:
    """Give the device ADDRESS back to its kernel driver; its twin goes."""
    with _clear_errors():
        nic = Binder().find(address)
        if Binder().in_use(nic) and not force:
            raise PciError(
                f"{nic.address} is in use by a dataplane: take it out of the agent's uplinks and"
                " restart agent and dataplane; to wait until it is let go of: --force"
            )
        driver = Binder().unbind(nic)
        _remove_twins(nic, state_dir)
        now = Binder().find(address)
    interfaces = ", ".join(now.interfaces) or "no interface"
    click.echo(f"{nic.address} is bound to {driver} ({interfaces})")


def _remove_twins(nic: Nic, state_dir: Path) -> None:
    from cni_virtio.twins import Twins

    twins = Twins(state_dir)
    for record in twins.records():
        if record.device == nic.address and twins.remove(record):
            click.echo(f"{record.ifname}, its twin, is removed")


def _is_link_local(address: str) -> bool:
    return ipaddress.ip_interface(address).is_link_local


def _row(nic: Nic, addresses: list[str]) -> list[str]:
    return [
        nic.address,
        f"{nic.vendor.removeprefix('0x')}:{nic.device.removeprefix('0x')}",
        nic.driver or "none",
        ", ".join(nic.interfaces) or "-",
        "\n".join(addresses) or "-",
        nic.iommu_group or "none",
    ]


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except (PciError, OSError) as error:
        raise click.ClickException(str(error)) from None
