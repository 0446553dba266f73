"""The command line's root: options for all, families of commands imported when used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from cni_virtio import __version__
from cni_virtio.ctl.agent_client import DEFAULT_SOCKET, AgentError

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "status": ("cni_virtio.ctl.show:status", "What the agent and its dataplane are doing."),
    "ports": ("cni_virtio.ctl.show:ports", "Ports of the dataplane, and who they belong to."),
    "networks": ("cni_virtio.ctl.show:networks", "Networks (L2 domains) and their ports."),
    "top": ("cni_virtio.ctl.top:top", "Load of each worker and rates of each port, live."),
    "doctor": (
        "cni_virtio.ctl.doctor.command:doctor",
        "What is wrong with this node, and what mends it.",
    ),
    "bandwidth": (
        "cni_virtio.ctl.bandwidth:bandwidth",
        "A container's rate limits.",
    ),
    "upgrade": (
        "cni_virtio.ctl.upgrade:upgrade",
        "A new dataplane process in the place of the present one.",
    ),
    "uplink": ("cni_virtio.ctl.uplink:uplink", "PCI network devices, to DPDK and back."),
    "lab": ("cni_virtio.ctl.lab.commands:lab", "Containers in network namespaces, to try it out."),
}


class _Families(click.Group):
    """Commands by the place of their code, so that `--help` and each one import only their own."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AgentError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:
            # The reader has seen enough; Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None


@click.group(cls=_Families, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    envvar="CNI_VIRTIO_AGENT_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    show_envvar=True,
    help="The agent's socket.",
)
@click.version_option(__version__, prog_name="cni-virtioctl")
@click.pass_context
def cli(ctx: click.Context, socket: str) -> None:
    """Look into cni-virtio, and try it out."""
    ctx.obj = socket
