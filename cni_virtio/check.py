"""CHECK: what was reported at ADD against what kernel and dataplane have now."""

from __future__ import annotations

from typing import Final

from cni_virtio import links
from cni_virtio.attach import Node
from cni_virtio.links import LinkView
from cni_virtio.netconf import NetConf
from cni_virtio.netns import NetnsError
from cni_virtio.ports import pod_port_name
from cni_virtio.spec import CniError, Code, Interface, Request, Result
from cni_virtio.state import Attachment, Key
from dataplane.client import DataplaneError, DataplaneUnavailable

_MAIN_TABLE: Final = 254


def check(node: Node, request: Request, conf: NetConf) -> None:
    """Raise CniError naming the first difference. What others added to the interface is fine."""
    attachment = node.wanted.get(Key(request.container_id, request.ifname))
    if attachment is None or attachment.name != conf.name:
        what = f"{request.ifname} of container {request.container_id}"
        raise _differs(f"{what} is not attached to network {conf.name}")
    if conf.prev_result is None:
        raise CniError(Code.INVALID_CONFIG, "prevResult: is missing, CHECK needs it")
    reported = _container_interface(request, conf.prev_result)
    if attachment.interface == "kernel":
        _check_link(request, reported, conf.prev_result)
    _check_port(node, attachment)


def _container_interface(request: Request, result: Result) -> int:
    for number, interface in enumerate(result.interfaces):
        if interface.name == request.ifname and interface.sandbox == request.netns:
            return number
    raise _differs(f"prevResult.interfaces: no {request.ifname} with sandbox {request.netns}")


def _check_link(request: Request, number: int, result: Result) -> None:
    try:
        view = links.inspect(request.netns_fd, request.ifname)
    except NetnsError as error:
        raise CniError(Code.NETWORK_SETUP, str(error)) from error
    where = f"interface {request.ifname} in {request.netns}"
    if view is None:
        raise _differs(f"{where} is gone")
    if view.kind != "tun":
        raise _differs(f"{where} is of kind {view.kind!r}, no tap")
    if not view.up:
        raise _differs(f"{where} is down")
    _check_identity(where, view, result.interfaces[number])
    _check_addresses(where, view, number, result)
    _check_routes(where, view, result)


def _check_identity(where: str, view: LinkView, reported: Interface) -> None:
    if reported.mac and reported.mac.lower() != view.mac:
        raise _differs(f"{where} has MAC {view.mac}, not {reported.mac}")
    if reported.mtu and reported.mtu != view.mtu:
        raise _differs(f"{where} has MTU {view.mtu}, not {reported.mtu}")


def _check_addresses(where: str, view: LinkView, number: int, result: Result) -> None:
    for ip in result.ips:
        if ip.interface in (number, None) and str(ip.address) not in view.addresses:
            raise _differs(f"{where} has lost address {ip.address}")


def _check_routes(where: str, view: LinkView, result: Result) -> None:
    present = {(route.dst, route.table or _MAIN_TABLE) for route in view.routes}
    gateways = {(route.dst, route.gw) for route in view.routes}
    for route in result.routes:
        if (str(route.dst), route.table or _MAIN_TABLE) not in present:
            raise _differs(f"{where} has lost the route to {route.dst}")
        if route.gw is not None and (str(route.dst), str(route.gw)) not in gateways:
            raise _differs(f"{where}: the route to {route.dst} is not by way of {route.gw}")


def _check_port(node: Node, attachment: Attachment) -> None:
    name = pod_port_name(*attachment.key)
    try:
        node.converger.port(name)
    except DataplaneUnavailable as error:
        raise CniError(Code.TRY_AGAIN_LATER, str(error)) from error
    except DataplaneError as error:
        reason = node.converger.failures.get(name, error.message)
        raise _differs(f"the dataplane has no port {name}: {reason}") from error


def _differs(msg: str) -> CniError:
    return CniError(Code.CHECK_FAILED, msg)
