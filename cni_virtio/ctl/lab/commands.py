"""`cni-virtioctl lab`: make, look at, ping, use and remove labs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from cni_virtio.config import ConfigError
from cni_virtio.ctl.agent_client import AgentError
from cni_virtio.ctl.lab import store
from cni_virtio.ctl.lab.errors import LabError
from cni_virtio.ctl.lab.harness import Lab
from cni_virtio.ctl.lab.mesh import Mesh
from cni_virtio.ctl.lab.paths import BASE, PLUGIN
from cni_virtio.ctl.lab.signals import interruptible, uninterrupted
from cni_virtio.ctl.lab.spec import HOST
from cni_virtio.ctl.tables import Column, print_table

_F = TypeVar("_F", bound=Callable[..., Any])
_ADDRESS_VERSIONS = (4, 6)


class _BadFileError(click.ClickException):
    exit_code = 2


@click.group()
def lab() -> None:
    """Containers in network namespaces, wired through the real plugin as a runtime would."""


def _dir_option(function: _F) -> _F:
    text = f"The lab's folder, instead of {BASE}/NAME."
    return click.option("--dir", "root", type=click.Path(path_type=Path), help=text)(function)


@lab.command()
@click.argument("file", type=click.Path(path_type=Path))
@_dir_option
@click.option("--keep", is_flag=True, help="Leave what was made if something fails.")
@click.option(
    "--plugin",
    type=click.Path(path_type=Path),
    default=PLUGIN,
    show_default=True,
    help="The CNI plugin's executable.",
)
def up(file: Path, root: Path | None, keep: bool, plugin: Path) -> None:
    """Make the lab that FILE describes: everything, or nothing."""
    with _clear_errors():
        made = Lab.from_file(file, root, plugin=plugin, keep=keep)
        with interruptible():
            made.up()
        _print_containers(made)
        socket = made.paths.agent_socket
        click.echo(f"\ncni-virtioctl lab ping {made.name}\ncni-virtioctl --socket {socket} ports")


@lab.command()
@click.argument("name", required=False)
@_dir_option
def ping(name: str | None, root: Path | None) -> None:
    """Ping from everyone to everyone; exit status 1 if somebody does not answer.

    Of an application only IPv4 is expected: testpmd's icmpecho speaks nothing else.
    """
    with _clear_errors():
        there = _existing(name, root)
        meshes = [(version, there.ping_matrix(version)) for version in _ADDRESS_VERSIONS]
        shown = [(version, mesh) for version, mesh in meshes if mesh.rtts_us]
        if not shown:
            raise LabError(f"lab {there.name}: there are no two ends with addresses")
        for version, mesh in shown:
            click.echo(f"IPv{version}, round trip in us, from the left to the top")
            _print_mesh(mesh)
    applications = {each.name for each in there.spec.containers if each.kind != "kernel"}
    failed = [
        (source, target)
        for version, mesh in shown
        for source, target in mesh.failed
        if version == 4 or target not in applications
    ]
    if failed:
        source, target = failed[0]
        see = f"see: cni-virtioctl --socket {there.paths.agent_socket} ports -v"
        hint = next((mesh.hint for _, mesh in shown if mesh.hint), see)
        reason = f"{len(failed)} without an answer, first {source} -> {target}; {hint}"
        raise click.ClickException(reason)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--lab", "lab_name", help="Name of the lab, if there are several.")
@_dir_option
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(lab_name: str | None, root: Path | None, name: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in the namespace of a container, of an uplink's outside, or of `host`."""
    with _clear_errors():
        there = _existing(lab_name, root)
        known = [HOST, *(u.name for u in there.spec.uplinks)]
        if name not in known:
            there.container(name)
        status = there.exec(name, command).returncode
    # Ended by a signal: as a shell says it.
    sys.exit(status if status >= 0 else 128 - status)


@lab.command()
@click.argument("name", required=False)
@_dir_option
def status(name: str | None, root: Path | None) -> None:
    """Show the labs there are, or what one of them consists of."""
    with _clear_errors():
        names = store.names()
        if name is None and root is None and len(names) != 1:
            click.echo("\n".join(names) if names else "no labs")
            return
        there = _existing(name, root)
        click.echo(f"lab {there.name} in {there.paths.root}")
        try:
            found = there.status()
            dataplane = found["dataplane"]
            click.echo(f"agent pid {found['pid']}, dataplane pid {dataplane.get('pid')}\n")
        except AgentError as error:
            click.echo(f"{error}\n")
        _print_containers(there)


@lab.command()
@click.argument("name", required=False)
@_dir_option
def down(name: str | None, root: Path | None) -> None:
    """Remove a lab, also what a crashed or half-finished `up` has left."""
    with _clear_errors():
        if name is None and root is None and not store.names():
            click.echo("no labs")
            return
        there = _existing(name, root)
        with uninterrupted():
            there.down()
        for note in there.notes:
            click.echo(f"note: {note}", err=True)


def _existing(name: str | None, root: Path | None) -> Lab:
    if root is not None:
        return Lab.existing(root)
    names = store.names()
    if name is None:
        if len(names) != 1:
            have = f"there are {', '.join(names)}: name one" if names else "there is none"
            raise LabError(f"which lab? {have}")
        name = names[0]
    if name not in names:
        raise LabError(f"there is no lab {name}; there are: {', '.join(names) or 'none'}")
    return Lab.existing(BASE / name)


def _print_containers(there: Lab) -> None:
    columns = [
        Column("CONTAINER"),
        Column("KIND"),
        Column("NETWORK"),
        Column("IFNAME"),
        Column("MAC"),
        Column("ADDRESSES"),
        Column("PIDS"),
    ]
    rows = []
    for container in there.spec.containers:
        pids = " ".join(str(pid) for pid in there.app_pids(container.name))
        rows += [
            [
                container.name,
                container.kind,
                str(found.netconf.get("network", "")),
                found.ifname,
                found.mac,
                "\n".join(found.addresses),
                pids,
            ]
            for found in there.attachments(container.name)
        ]
    print_table(columns, rows)


def _print_mesh(mesh: Mesh) -> None:
    def cell(source: str, target: str) -> str:
        if (source, target) not in mesh.rtts_us:
            return "."
        rtt = mesh.rtts_us[source, target]
        return "lost" if rtt is None else f"{rtt:.0f}"

    columns = [Column(""), *(Column(target, right=True) for target in mesh.targets)]
    rows = [[source, *(cell(source, target) for target in mesh.targets)] for source in mesh.sources]
    print_table(columns, rows)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what can go wrong into one message and exit status 1, 2 for a bad lab file."""
    try:
        yield
    except ConfigError as error:
        raise _BadFileError(str(error)) from None
    except BrokenPipeError:
        raise
    except (LabError, AgentError, OSError) as error:
        raise click.ClickException(str(error)) from None
