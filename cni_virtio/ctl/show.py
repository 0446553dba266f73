"""`status`, `ports` and `networks`: the agent's view, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from cni_virtio.ctl.agent_client import query
from cni_virtio.ctl.limits import limits_lines
from cni_virtio.ctl.show_timings import show_timings
from cni_virtio.ctl.tables import Column, print_table, short
from cni_virtio.vhost_threads import is_vhost_net

_Json = dict[str, Any]
_json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.command()
@_json_option
@click.option("--check", is_flag=True, help="Say nothing if all serve; else why not, and status 1.")
@click.option("--timings", is_flag=True, help="Where the time of the calls went, by step.")
@click.pass_obj
def status(socket: str, as_json: bool, check: bool, timings: bool) -> None:
    """Show what the agent and its dataplane are doing."""
    if timings:
        show_timings(query(socket, "timings"), as_json=as_json)
        return
    found = query(socket, "status")
    if check:
        _check(found)
        return
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in _status_lines(found):
        click.echo(f"{name:<12} {value}")
    for what, failure in (found.get("failures") or {}).items():
        click.echo(f"{'failing':<12} {what}: {_compact(failure)}")
    for message in found.get("messages", []):
        click.echo(f"{'note':<12} {message}")


@click.command()
@_json_option
@click.option("-v", "--verbose", is_flag=True, help="Drops by reason, and offloads, of each port.")
@click.argument("name", required=False)
@click.pass_obj
def ports(socket: str, as_json: bool, verbose: bool, name: str | None) -> None:
    """Show ports: NAME may be part of a port's name, pod or container."""
    found = query(socket, "ports")
    if name is not None:
        found = {
            kind: [each for each in items if name in each["spec"]["name"] or name in _owner(each)]
            for kind, items in found.items()
        }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    items: list[_Json] = found["ports"]
    missing: list[_Json] = found.get("missing", [])
    columns = [
        Column("PORT", wrap=True),
        Column("NETWORK", wrap=True),
        Column("KIND"),
        Column("MAC"),
        Column("IPS"),
        Column("Q", right=True),
        Column("LINK"),
        Column("RX", right=True),
        Column("TX", right=True),
        Column("DROPS", right=True),
    ]
    print_table(columns, [_port_row(item) for item in [*items, *missing]])
    if verbose:
        _print_details(items)
    for item in missing:
        click.echo(f"missing: {item['spec']['name']}: {item['failure']}")


@click.command()
@_json_option
@click.pass_obj
def networks(socket: str, as_json: bool) -> None:
    """Show networks and how many ports and addresses they have."""
    items: list[_Json] = query(socket, "networks")["networks"]
    if as_json:
        click.echo(json.dumps({"networks": items}, indent=2))
        return
    columns = [
        Column("NETWORK", wrap=True),
        Column("UPLINK", wrap=True),
        Column("VLAN", right=True),
        Column("MTU", right=True),
        Column("PORTS", right=True),
        Column("MACS", right=True),
        Column("DECLARED"),
    ]
    print_table(columns, [_network_row(item) for item in items])


def _check(found: _Json) -> None:
    dataplane: _Json = found.get("dataplane") or {}
    if not dataplane.get("running"):
        reason = dataplane.get("last_error") or "see the agent's log"
        raise click.ClickException(f"the dataplane is not running: {reason}")


def _status_lines(found: _Json) -> Iterator[tuple[str, str]]:
    dataplane: _Json = found.get("dataplane") or {}
    yield "agent", f"{found.get('version')}, pid {found.get('pid')}, up {_age(found['uptime_s'])}"
    yield "config", str(found.get("config_file"))
    reason = found.get("backend_reason")
    yield "backend", f"{found.get('backend')} ({reason})" if reason else str(found.get("backend"))
    yield "attachments", str(found.get("attachments"))
    yield "networks", str(found.get("networks"))
    if not dataplane.get("running"):
        reason = dataplane.get("last_error") or "see the agent's log"
        yield "dataplane", f"not running: {reason}"
        return
    yield "dataplane", f"pid {dataplane.get('pid')}, {dataplane.get('dpdk')}"
    yield "  cores", f"{_compact(dataplane.get('cores', []))}, idle {dataplane.get('idle')}"
    yield "  memory", _memory(dataplane.get("memory") or {})
    yield "  restarts", str(dataplane.get("restarts", 0))


def _memory(memory: _Json) -> str:
    pages = "hugepages" if memory.get("huge") else "ordinary pages"
    pools = memory.get("pools") or {}
    used = [f"{name} {pool['in_use']}/{pool['size']}" for name, pool in pools.items()]
    return f"{pages}; buffers in use: {', '.join(used)}" if used else pages


def _compact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_compact(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _age(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min"]
    return " ".join(part for part in parts if part) if days or hours or minutes else f"{seconds} s"


def owner(port: str, attachment: _Json | None) -> str:
    """Say who a port belongs to: pod or container with its interface, else the port's own name."""
    if not attachment:
        return port
    pod, space = attachment.get("pod"), attachment.get("namespace")
    who = f"{space}/{pod}" if pod and space else pod or attachment.get("container_id")
    return f"{who} {attachment.get('ifname')}"


def _owner(item: _Json) -> str:
    return owner(str(item["spec"]["name"]), item.get("attachment"))


def _port_row(item: _Json) -> list[str]:
    spec, state, counters = item["spec"], item.get("state") or {}, item.get("counters") or {}
    return [
        _owner(item),
        spec.get("network") or "-",
        "vhost-net" if is_vhost_net(spec) else spec["kind"],
        state.get("mac") or spec.get("mac") or "-",
        "\n".join(spec.get("ips") or ["-"]),
        str(spec.get("queues", 1)),
        _link(state),
        short(counters.get("rx_packets", 0)),
        short(counters.get("tx_packets", 0)),
        short(sum((counters.get("drops") or {}).values())),
    ]


def _link(state: _Json) -> str:
    """`wait`: nobody at the other end yet, such as no application on a vhost-user socket.

    `missing`: the port is wanted, and the dataplane does not have it.
    """
    if not state:
        return "missing"
    if not state.get("ready", False):
        return "wait"
    return "up" if state.get("link_up", True) else "down"


def _print_details(items: list[_Json]) -> None:
    for item in items:
        counters = item.get("counters") or {}
        drops = {reason: n for reason, n in (counters.get("drops") or {}).items() if n}
        click.echo(f"\n{item['spec']['name']}  ({_owner(item)})")
        click.echo(f"  drops     {_compact(drops) or 'none'}")
        for direction, text in limits_lines(item):
            click.echo(f"  {direction:<9} {text}")
        if offloads := (item.get("state") or {}).get("offloads"):
            click.echo(f"  offloads  {_compact(offloads)}")
        for key, value in _device(item.get("state") or {}):
            click.echo(f"  {key:<9} {value}")
        for key, value in counters.items():
            if isinstance(value, int) and value and key not in ("rx_packets", "tx_packets"):
                click.echo(f"  {key:<16} {value}")


def _device(state: _Json) -> Iterator[tuple[str, str]]:
    if state.get("memory_lost"):
        yield "frontend", "took away memory that it had shared: restart the application"
    if driver := state.get("driver"):
        yield "driver", str(driver)
    if speed := state.get("speed_mbps"):
        yield "speed", f"{speed} Mbit/s"
    if threads := state.get("vhost_threads"):
        yield "threads", _compact(threads)


def _network_row(item: _Json) -> list[str]:
    spec = item["spec"]
    return [
        spec["name"],
        (spec.get("uplink") or "-").removeprefix("uplink:"),
        str(spec.get("vlan") or "-"),
        str(spec["mtu"]),
        str(len(item.get("ports") or [])),
        str(item.get("fdb_entries", 0)),
        "yes" if item.get("declared") else "on use",
    ]
