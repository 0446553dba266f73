"""CHECK: what was reported at ADD against what kernel and dataplane have now.

Only what this plugin made is looked at. What later plugins of the chain may have changed is fine:
another MTU within the network's (tuning), routes moved to other tables (sbr), anything added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from cni_virtio import links
from cni_virtio.links import LinkView
from cni_virtio.mac_watch import mac_problem
from cni_virtio.netconf import NetConf
from cni_virtio.netns import NetnsError
from cni_virtio.node import Node
from cni_virtio.ports import gateway_ifname, pod_port_name
from cni_virtio.spec import CniError, Code, Interface, Request, Result, Route
from cni_virtio.state import Attachment, Key
from dataplane.client import DataplaneError, DataplaneUnavailable

_CONVERGENCE_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.05


def check(node: Node, request: Request, conf: NetConf) -> None:
    """Raise CniError naming the first difference, 11 if there is no dataplane for the moment.

    What comes back by itself, a port and its carrier, is given a few seconds to do so.
    """
    attachment = node.wanted.get(Key(request.container_id, request.ifname))
    if attachment is None or attachment.name != conf.name:
        what = f"{request.ifname} of container {request.container_id}"
        raise _differs(f"{what} is not attached to network {conf.name}")
    if conf.prev_result is None:
        raise CniError(Code.INVALID_CONFIG, "prevResult: is missing, CHECK needs it")
    reported = _container_interface(request, conf.prev_result)
    if attachment.interface == "kernel":
        _check_link(node, request, attachment, reported, conf.prev_result)
    _once_converged(lambda: _check_port(node, request, attachment))
    if attachment.gateways:
        _check_gateway(attachment)
    if address := node.masquerade.missing(attachment):
        raise _differs(f"ipMasq: {address} is not masqueraded any more")


def _container_interface(request: Request, result: Result) -> Interface:
    for interface in result.interfaces:
        if interface.name == request.ifname and interface.sandbox == request.netns:
            return interface
    raise _differs(f"prevResult.interfaces: no {request.ifname} with sandbox {request.netns}")


def _check_link(
    node: Node, request: Request, attachment: Attachment, reported: Interface, result: Result
) -> None:
    where = f"interface {request.ifname} in {request.netns}"
    view = _view(request.netns_fd, request.ifname)
    if view is None:
        raise _differs(f"{where} is gone")
    if view.kind != "tun":
        raise _differs(f"{where} is of kind {view.kind!r}, no tap")
    if not view.up:
        raise _differs(f"{where} is down")
    _check_identity(where, view, reported, attachment)
    _check_addresses(where, view, attachment.ips, result)
    _check_routes(where, view, _own_routes(node, attachment, result), result)


def _check_identity(
    where: str, view: LinkView, reported: Interface, attachment: Attachment
) -> None:
    if reported.mac and reported.mac.lower() != view.mac:
        raise _differs(f"{where} has MAC {view.mac}, not {reported.mac}")
    if problem := mac_problem(attachment, view.mac):
        raise _differs(problem)
    if view.mtu > attachment.mtu:
        raise _differs(f"{where} has MTU {view.mtu}, more than the {attachment.mtu} of its port")


def _check_addresses(where: str, view: LinkView, own: Iterable[str], result: Result) -> None:
    reported = {str(ip.address) for ip in result.ips}
    for address in own:
        if address in reported and address not in view.addresses:
            raise _differs(f"{where} has lost address {address}")


def _own_routes(node: Node, attachment: Attachment, result: Result) -> tuple[Route, ...]:
    """Return the routes that ADD made; all reported ones if their record got lost."""
    record = node.state.get(attachment.key)
    if record is None or "interfaces" not in record.result:
        return result.routes
    return Result.from_json(record.result).routes


def _check_routes(where: str, view: LinkView, own: Iterable[Route], result: Result) -> None:
    reported = {(route.dst, route.gw) for route in result.routes}
    for route in own:
        if (route.dst, route.gw) not in reported:
            continue
        routers = {found.gw for found in view.routes if found.dst == str(route.dst)}
        if not routers:
            raise _differs(f"{where} has lost the route to {route.dst}")
        hop = route.gw
        if hop is not None and not hop.is_unspecified and str(hop) not in routers:
            raise _differs(f"{where}: the route to {route.dst} is not by way of {hop}")


def _check_gateway(attachment: Attachment) -> None:
    ifname = gateway_ifname(attachment.network)
    view = _view(None, ifname)
    if view is None:
        raise _differs(f"the host's interface {ifname} is gone")
    if not view.up:
        raise _differs(f"the host's interface {ifname} is down")
    for address in attachment.gateways:
        if address not in view.addresses:
            raise _differs(
                f"the host's interface {ifname} has lost the gateway's address {address}"
            )


def _check_port(node: Node, request: Request, attachment: Attachment) -> None:
    name = pod_port_name(*attachment.key)
    try:
        node.converger.port(name)
    except DataplaneUnavailable as error:
        raise CniError(Code.TRY_AGAIN_LATER, str(error)) from error
    except DataplaneError as error:
        reason = node.converger.failures.get(name, error.message)
        raise _differs(f"the dataplane has no port {name}: {reason}") from error
    if attachment.interface == "kernel" and not _has_carrier(request):
        raise _differs(f"interface {request.ifname} in {request.netns} has no carrier")


def _has_carrier(request: Request) -> bool:
    try:
        return bool(links.has_carrier(request.netns_fd, request.ifname))
    except NetnsError as error:
        raise CniError(Code.NETWORK_SETUP, str(error)) from error


def _view(netns_fd: int | None, ifname: str) -> LinkView | None:
    try:
        return links.inspect(netns_fd, ifname)
    except NetnsError as error:
        raise CniError(Code.NETWORK_SETUP, str(error)) from error


def _once_converged(compare: Callable[[], None]) -> None:
    deadline_s = time.monotonic() + _CONVERGENCE_S
    while True:
        try:
            return compare()
        except CniError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_LOOK_AGAIN_S)


def _differs(msg: str) -> CniError:
    return CniError(Code.CHECK_FAILED, msg)
