"""ADD of one attachment: record, reconcile, report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from cni_virtio import ipam, links, spec
from cni_virtio.addressing import Addressing, addressing, result_of
from cni_virtio.chain import merged
from cni_virtio.detach import port_names, reclaim, release
from cni_virtio.draft import draft
from cni_virtio.errand import Errand
from cni_virtio.interfaces import Interface, interface_of
from cni_virtio.netconf import NetConf
from cni_virtio.node import Node, as_cni_errors
from cni_virtio.ports import (
    container_port,
    gateway_ifname,
    gateway_mac,
)
from cni_virtio.sandbox import is_same, namespace_of
from cni_virtio.spec import CniError, Code, Request, Result
from cni_virtio.state import Attachment
from cni_virtio.timings import step

log = logging.getLogger(__name__)

_UNDO_DEADLINE_S = 10.0
_DATAPLANE_PATIENCE_S = 5.0


def attach(node: Node, request: Request, conf: NetConf) -> Result:
    """Carry out an ADD. Raises CniError, and leaves no trace then."""
    assert request.netns_fd is not None
    with as_cni_errors(), ExitStack() as undo:
        wanted = draft(node.config, node.wanted, request, conf)
        with step("check"):
            _refuse_second(node, wanted, request)
            _await_dataplane(node)
        vhost_net = container_port(wanted, node.config.backend).kind == "ethdev"
        interface = interface_of(wanted, request.netns_fd, vhost_net=vhost_net)
        undo.callback(_undo, lambda: _end_record(node, wanted))
        undo.callback(_undo, interface.discard)
        lease_by = _lease_through if ipam.needs_interface(conf.ipam_type) else _lease_while
        with step("ipam"):
            leasing = lease_by(node, wanted, interface, conf, request, undo)
            lease = leasing.lease()
        attachment, given = _complete(wanted, conf, lease)
        node.wanted.add(attachment)
        result = result_of(attachment, conf, given, _host_interface(node, attachment))

        def set_up() -> None:
            with step("configure"):
                interface.set_up(attachment, given.routes)

        _connect(node, attachment, interface, Errand(set_up))
        with step("ipam end"):
            leasing.settle()
        _record(node, replace(attachment, result=result.to_json(conf.cni_version)))
        undo.pop_all()
    return result if conf.prev_result is None else merged(conf.prev_result, result)


def _refuse_second(node: Node, wanted: Attachment, request: Request) -> None:
    """Refuse what is there already; an attachment whose namespace is gone makes room.

    This comes before IPAM: the undo of a refused second ADD would free the first one's addresses.
    """
    netns_fd = request.netns_fd
    assert netns_fd is not None
    present = node.wanted.get(wanted.key)
    if present is None:
        if (half := node.state.get(wanted.key)) is not None:  # as an agent that was killed left it
            reclaim(node, half, ":".join(request.path))
        if wanted.interface == "kernel" and links.exists(netns_fd, wanted.ifname):
            msg = f"CNI_IFNAME: {wanted.ifname!r} exists already in {wanted.netns}"
            raise CniError(Code.INVALID_ENVIRONMENT, msg)
        return
    with namespace_of(present) as found:
        if found is not None or is_same(netns_fd, present):
            what = f"{wanted.ifname!r} of container {wanted.container_id}"
            msg = f"CNI_IFNAME: {what} is attached already to network {present.name}; DEL it first"
            raise CniError(Code.INVALID_ENVIRONMENT, msg)
    log.info("%s/%s: its former namespace is gone, released", *present.key)
    reclaim(node, present, ":".join(request.path))


def _await_dataplane(node: Node) -> None:
    if not node.converger.wait_online(_DATAPLANE_PATIENCE_S):
        reason = node.converger.offline_reason
        raise CniError(Code.TRY_AGAIN_LATER, f"the dataplane is not running: {reason}")


def _lease_while(
    node: Node,
    wanted: Attachment,
    interface: Interface,
    conf: NetConf,
    request: Request,
    undo: ExitStack,
) -> ipam.Delegation:
    """Have addresses chosen, and meanwhile do all that does not need them."""
    _record(node, wanted)
    undo.callback(_free_addresses, conf, request)
    leasing = ipam.Delegation("ADD", conf, request)
    undo.callback(leasing.abandon)
    with step("interface"):
        interface.make()
    undo.callback(_undo, lambda: release(node, wanted, request.netns_fd))
    return leasing


def _lease_through(
    node: Node,
    wanted: Attachment,
    interface: Interface,
    conf: NetConf,
    request: Request,
    undo: ExitStack,
) -> ipam.Delegation:
    """Have addresses chosen by way of the interface, which works before it has any."""
    _record(node, wanted)
    with step("interface"):
        interface.make()
    undo.callback(_undo, lambda: release(node, wanted, request.netns_fd))
    node.wanted.add(wanted)
    _connect(node, wanted, interface, Errand(lambda: interface.set_up(wanted, ())))
    undo.callback(_free_addresses, conf, request)
    leasing = ipam.Delegation("ADD", conf, request)
    undo.callback(leasing.abandon)
    return leasing


def _record(node: Node, attachment: Attachment) -> None:
    """Have on record what is there or about to be: if the agent is killed, the next goes by it."""
    with step("record"):
        node.state.save(attachment)


def _end_record(node: Node, attachment: Attachment) -> None:
    """End an undo: until then, the next agent removes what is left if this one is killed."""
    with step("record end"):
        node.state.delete(attachment.key)


def _complete(
    wanted: Attachment, conf: NetConf, lease: Result | None
) -> tuple[Attachment, Addressing]:
    given = addressing(conf, lease or Result())
    ips = tuple(str(ip.address) for ip in given.ips)
    return replace(wanted, ips=ips, gateways=given.gateways), given


def _connect(node: Node, attachment: Attachment, interface: Interface, setting_up: Errand) -> None:
    """Have the dataplane serve the interface, and the container use it."""
    meanwhile = setting_up.run if interface.keeps_packets else None
    with step("dataplane"):
        names, fds = port_names(attachment), interface.take_fds()
        node.converger.settle(attachment.network, names, fds, meanwhile)
    setting_up.result()
    if attachment.gateways:
        with step("gateway"):
            node.gateways.add_addresses(attachment.network, attachment.gateways)
    with step("masquerade"):
        node.masquerade.add(attachment)


def _undo(step_back: Callable[[], object]) -> None:
    """Take a step of an ADD back; what made the ADD fail is what the runtime must hear of."""
    try:
        step_back()
    except (CniError, OSError) as error:
        log.warning("undo of ADD: %s", error)


def _free_addresses(conf: NetConf, request: Request) -> None:
    try:
        with step("ipam undo"):
            ipam.delegate("DEL", conf, request, _UNDO_DEADLINE_S)
    except CniError as error:
        log.warning("undo of ADD: IPAM: %s", error.msg)


def _host_interface(node: Node, attachment: Attachment) -> spec.Interface | None:
    if not attachment.gateways:
        return None
    network = attachment.network
    return spec.Interface(
        name=gateway_ifname(network),
        mac=gateway_mac(network, str(node.config.dataplane.socket)),
        mtu=node.wanted.gateway_mtu(network),
    )
