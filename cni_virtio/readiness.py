"""STATUS: whether an ADD could succeed, and if not, why."""

from __future__ import annotations

from typing import Any

from cni_virtio import ipam
from cni_virtio.masquerade import MasqueradeError, check_program
from cni_virtio.netconf import NetConf
from cni_virtio.node import Node
from cni_virtio.spec import CniError, Code, Request
from dataplane.client import DataplaneError, DataplaneUnavailable


def check_ready(node: Node, request: Request, conf: NetConf) -> None:
    """Raise CniError 50, or 51 if what is attached suffers too; or the IPAM plugin's own error."""
    _check_dataplane(node, conf)
    _check_network(node, conf)
    _check_room(node)
    if conf.ip_masq:
        try:
            check_program()
        except MasqueradeError as error:
            raise CniError(Code.NOT_AVAILABLE, str(error)) from error
    _check_ipam(request, conf)


def _check_dataplane(node: Node, conf: NetConf) -> None:
    if not node.converger.wait_online(0.0):
        reason = node.converger.offline_reason
        cut_off = bool(node.wanted.of_name(conf.name))
        code = Code.LIMITED_CONNECTIVITY if cut_off else Code.NOT_AVAILABLE
        raise CniError(code, f"the dataplane is not running: {reason}")


def _check_network(node: Node, conf: NetConf) -> None:
    failures = node.converger.failures
    declared = node.wanted.declared(conf.network)
    for name in (conf.network, declared.uplink if declared else None):
        if name in failures:
            raise CniError(Code.LIMITED_CONNECTIVITY, f"{name}: {failures[name]}")


def _check_room(node: Node) -> None:
    """Look for what the dataplane has run out of."""
    if reason := node.converger.shortage.reason:
        raise CniError(Code.NOT_AVAILABLE, f"the dataplane takes no more ports: {reason}")
    try:
        about = node.converger.dataplane()
    except (DataplaneError, DataplaneUnavailable) as error:
        raise CniError(Code.NOT_AVAILABLE, str(error)) from error
    limit = about.get("max_ports")
    if limit is not None and node.converger.port_count >= limit:
        raise CniError(Code.NOT_AVAILABLE, f"the dataplane has {limit} ports, and takes no more")
    _check_buffers(about)


def _check_buffers(about: dict[str, Any]) -> None:
    for name, pool in about["memory"]["pools"].items():
        if pool["in_use"] >= pool["size"]:
            what = f"all {pool['size']} buffers of pool {name} are in use"
            raise CniError(Code.LIMITED_CONNECTIVITY, f"{what}: raise dataplane.memory")


def _check_ipam(request: Request, conf: NetConf) -> None:
    """Have the IPAM plugin look at itself; that it is there at all, for one of an older spec."""
    if conf.ipam_type is None:
        return
    try:
        ipam.find(conf.ipam_type, request.path)
    except CniError as error:
        raise CniError(Code.NOT_AVAILABLE, error.msg, error.details) from error
    ipam.delegate("STATUS", conf, request)
