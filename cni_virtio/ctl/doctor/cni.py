"""What runtimes need of the node's files: networks of ours that they take, and all plugins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cni_virtio.ctl.doctor.finding import Check, Finding, NotCheckedError
from cni_virtio.ctl.doctor.networks import TYPE, NetworkFile
from cni_virtio.ctl.doctor.patient import Patient

_DHCP_SOCKET: Final = "/run/cni/dhcp.sock"


def networks(patient: Patient) -> Iterator[Finding]:
    """Look whether runtimes can read the configurations, and the agent takes those of ours."""
    ours = [file for file in patient.network_files if file.ours]
    yield from _unreadable(patient.network_files, ours)
    if not ours and not any(file.delegates for file in patient.network_files):
        yield Finding(
            f"no network of type {TYPE} in {patient.cni_conf_dir}",
            "runtimes do not know of ours; only Multus takes networks from elsewhere",
            "put one there: manifests/ has examples, and the README says what can be in it",
        )
    for file in ours:
        for conf in file.ours:
            yield from _netconf(patient, file.path, conf)
    yield from _twice(patient.network_files, {file.name for file in ours})


def _unreadable(files: list[NetworkFile], ours: list[NetworkFile]) -> Iterator[Finding]:
    for file in files:
        # What comes after the last of ours is nothing to us, and nothing to most runtimes.
        if file.error and (not ours or file.path < ours[-1].path):
            why = "containerd takes no network at all while it is there, CRI-O passes it over"
            yield Finding(f"{file.path}: {file.error}", why, f"mend it, or rm {file.path}")


def _twice(files: list[NetworkFile], our_names: set[str]) -> Iterator[Finding]:
    seen: dict[str, Path] = {}
    for file in files:
        first = seen.setdefault(file.name, file.path)
        if first != file.path and file.name in our_names:
            what = f"{file.path}: network {file.name} is in {first} already"
            why = "runtimes take one of them and ignore the other"
            yield Finding(what, why, f'set another "name" in {file.path}, or rm {file.path}')


def order(patient: Patient) -> Iterator[Finding]:
    """Look whether a runtime that takes the first network takes one of ours."""
    if any(file.delegates for file in patient.network_files):
        return  # Multus asks for networks by their names
    usable = [file for file in patient.network_files if not file.error]
    ours = [file for file in usable if file.ours]
    if not ours:
        raise NotCheckedError(f"no network of type {TYPE} in {patient.cni_conf_dir}")
    first = usable[0]
    if not first.ours:
        yield Finding(
            f"{first.path} (network {first.name}, type {first.plugins[0]['type']}) comes before"
            f" {ours[0].path}",
            f"containerd and CRI-O take the first file: no container gets network {ours[0].name}"
            " unless it asks for it by name",
            f"mv {first.path} {first.path}.disabled, or mv {ours[0].path}"
            f" {ours[0].path.with_name(f'00-{ours[0].path.name}')}",
        )


def plugins(patient: Patient) -> Iterator[Finding]:
    """Look whether the plugins that our networks call are there."""
    for file in patient.network_files:
        if not file.ours:
            continue
        for name, key in _called(file):
            place = patient.plugin(name)
            if place is None or not os.access(place, os.X_OK):
                what = "is missing in" if place is None else "is not executable in"
                folders = ", ".join(map(str, patient.cni_bin_dirs))
                yield Finding(
                    f"{file.path}: {key} {name} {what} {folders}",
                    f"ADD on network {file.name} fails",
                    f"chmod 0755 {place}" if place else _fetch(patient, name),
                )
        for conf in file.ours:
            yield from _dhcp(conf, file)


def _netconf(patient: Patient, path: Path, conf: dict[str, Any]) -> Iterator[Finding]:
    from cni_virtio.netconf import parse
    from cni_virtio.spec import CniError

    try:
        parsed = parse(json.dumps(conf).encode())
    except CniError as error:
        why = "the agent refuses every ADD with it"
        yield Finding(f"{path}: {error.msg}", why, f"mend that key in {path}")
        return
    if os.path.realpath(parsed.agent_socket) != os.path.realpath(patient.agent_socket):
        yield Finding(
            f"{path}: agentSocket is {parsed.agent_socket}, the agent's is {patient.agent_socket}",
            "the shim asks where nobody answers: every ADD fails with error 11",
            f'"agentSocket": "{patient.agent_socket}" in {path}',
        )


def _called(file: NetworkFile) -> list[tuple[str, str]]:
    """Name the plugins that a network calls but for ours, each with the key that names it."""
    found = [(str(each["type"]), "plugin") for each in file.plugins if each["type"] != TYPE]
    for conf in file.ours:
        ipam = conf.get("ipam")
        if isinstance(ipam, dict) and isinstance(ipam.get("type"), str):
            found.append((ipam["type"], "IPAM plugin"))
    return list(dict.fromkeys(found))


def _dhcp(conf: dict[str, Any], file: NetworkFile) -> Iterator[Finding]:
    from dataplane.unix_socket import who_serves

    ipam = conf.get("ipam")
    if not isinstance(ipam, dict) or ipam.get("type") != "dhcp":
        return
    place = str(ipam.get("daemonSocketPath") or _DHCP_SOCKET)
    if who_serves(place) is None:
        yield Finding(
            f"{file.path}: no daemon of the dhcp plugin listens at {place}",
            f"ADD on network {file.name} fails",
            f"dhcp daemon -socketpath {place} (the plugin's own file, as a service)",
        )


def _fetch(patient: Patient, name: str) -> str:
    debian = Path("/usr/lib/cni") / name
    folder = patient.cni_bin_dirs[0]
    if debian.exists():
        return f"cp {debian} {folder}/"
    return f"put {name} there (containernetworking-plugins): cp /usr/lib/cni/{name} {folder}/"


CHECKS: Final = (
    Check("networks", "runtimes can read our networks, and the agent takes them", networks),
    Check("order", "the first network that a runtime finds is one of ours", order),
    Check("plugins", "the plugins that our networks call are there", plugins),
)
