"""ADD and DEL of one attachment: record, reconcile, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from cni_virtio import interfaces, ipam, leases, links, spec
from cni_virtio.addressing import Addressing, addressing, result_of
from cni_virtio.chain import merged
from cni_virtio.config import AgentConfig
from cni_virtio.converge import Converger
from cni_virtio.draft import draft
from cni_virtio.errand import Errand
from cni_virtio.gateway import Gateways
from cni_virtio.interfaces import Interface, interface_of
from cni_virtio.masquerade import Masquerade
from cni_virtio.netconf import NetConf
from cni_virtio.ports import (
    container_port,
    gateway_ifname,
    gateway_mac,
    gateway_port_name,
    pod_port_name,
)
from cni_virtio.sandbox import is_same, namespace_of
from cni_virtio.spec import CniError, Code, Request, Result
from cni_virtio.state import Attachment, Key, StateDir, StateError
from cni_virtio.timings import step
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneError, DataplaneUnavailable

log = logging.getLogger(__name__)

_UNDO_DEADLINE_S = 10.0
_DATAPLANE_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Node:
    """All that the verbs work on."""

    config: AgentConfig
    state: StateDir
    wanted: Wanted
    gateways: Gateways
    masquerade: Masquerade
    converger: Converger


def attach(node: Node, request: Request, conf: NetConf) -> Result:
    """Carry out an ADD. Raises CniError, and leaves no trace then."""
    assert request.netns_fd is not None
    with _as_cni_errors(), ExitStack() as undo:
        wanted = draft(node.config, node.wanted, request, conf)
        with step("check"):
            _refuse_second(node, wanted, request)
            _await_dataplane(node)
        vhost_net = container_port(wanted, node.config.backend).kind == "ethdev"
        interface = interface_of(wanted, request.netns_fd, vhost_net=vhost_net)
        undo.callback(_undo, interface.discard)
        undo.callback(_undo, lambda: node.state.delete(wanted.key))
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
        with step("record"):
            node.state.save(replace(attachment, result=result.to_json(conf.cni_version)))
        undo.pop_all()
    return result if conf.prev_result is None else merged(conf.prev_result, result)


def detach(node: Node, request: Request, conf: NetConf) -> None:
    """Carry out a DEL. What is gone already is fine; raises CniError if something stays."""
    attachment = node.wanted.get(Key(request.container_id, request.ifname))
    if attachment is None:
        attachment = _guess(node, request, conf)
    elif attachment.name != conf.name:
        attachment = None  # of another network: not this call's to remove
    through_it = ipam.needs_interface(conf.ipam_type)
    with _as_cni_errors(), ExitStack() as both:
        if attachment is not None and not through_it:
            _unplug(node, attachment)
        both.enter_context(step("ipam"))
        try:
            freeing = Errand(ipam.Delegation("DEL", conf, request).result)
            both.callback(freeing.result)
            if through_it:
                freeing.run()
        finally:
            if attachment is not None and through_it:
                _unplug(node, attachment)
            if attachment is not None:
                _forget(node, attachment, request.netns_fd)


def release(node: Node, attachment: Attachment, netns_fd: int | None = None) -> None:
    """Remove port, container's end and record. Raises CniError or OSError if something stays."""
    attachment = node.wanted.get(attachment.key) or attachment  # as it is by now
    _unplug(node, attachment)
    _forget(node, attachment, netns_fd)


def reclaim(node: Node, attachment: Attachment, cni_path: str = "") -> None:
    """Remove all of an attachment that no DEL removes, its addresses included.

    The record goes last, so that what failed can be repeated. IPAM plugins are looked for along
    `cni_path`, or else where the ADD's were. Raises CniError or OSError if something stays.
    """
    with _as_cni_errors():
        if ipam.needs_interface(attachment.netconf.get("ipam", {}).get("type")):
            leases.free(attachment, cni_path)
            _unplug(node, attachment)
            _remove_rest(node, attachment, None)
        else:
            _unplug(node, attachment)
            _remove_rest(node, attachment, None)
            leases.free(attachment, cni_path)
        node.state.delete(attachment.key)


def _refuse_second(node: Node, wanted: Attachment, request: Request) -> None:
    """Refuse what is there already; an attachment whose namespace is gone makes room.

    This comes before IPAM: the undo of a refused second ADD would free the first one's addresses.
    """
    netns_fd = request.netns_fd
    assert netns_fd is not None
    present = node.wanted.get(wanted.key)
    if present is None:
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
    undo.callback(_free_addresses, conf, request)
    leasing = ipam.Delegation("ADD", conf, request)
    undo.callback(leasing.abandon)
    _prepare(node, wanted, interface)
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
    _prepare(node, wanted, interface)
    undo.callback(_undo, lambda: release(node, wanted, request.netns_fd))
    node.wanted.add(wanted)
    _connect(node, wanted, interface, Errand(lambda: interface.set_up(wanted, ())))
    undo.callback(_free_addresses, conf, request)
    leasing = ipam.Delegation("ADD", conf, request)
    undo.callback(leasing.abandon)
    return leasing


def _prepare(node: Node, wanted: Attachment, interface: Interface) -> None:
    """Make the interface; before that, have on record what would have to be removed."""
    with step("record"):
        node.state.save(wanted)
    with step("interface"):
        interface.make()


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
        names, fds = _port_names(attachment), interface.take_fds()
        node.converger.settle(attachment.network, names, fds, meanwhile)
    setting_up.result()
    if attachment.gateways:
        with step("gateway"):
            node.gateways.add_addresses(attachment.network, attachment.gateways)
    node.masquerade.add(attachment)


def _port_names(attachment: Attachment) -> list[str]:
    """Name the ports that an attachment brings along, or takes with it as the last."""
    return [pod_port_name(*attachment.key), gateway_port_name(attachment.network)]


def _unplug(node: Node, attachment: Attachment) -> None:
    """Remove the port, and the host's with the last that wanted it.

    Does not fail: without a dataplane there is no port, and it will not be wanted any more.
    """
    node.wanted.remove(attachment.key)
    try:
        with step("dataplane"):
            node.converger.withdraw(attachment.network, _port_names(attachment))
    except DataplaneUnavailable as error:
        log.info("%s/%s: its port is removed later: %s", *attachment.key, error)
    except (DataplaneError, OSError) as error:
        log.warning("%s/%s: its port is removed later: %s", *attachment.key, error)
        node.converger.doubt()


def _undo(step_back: Callable[[], object]) -> None:
    """Take a step of an ADD back; what made the ADD fail is what the runtime must hear of."""
    try:
        step_back()
    except (CniError, OSError) as error:
        log.warning("undo of ADD: %s", error)


def _forget(node: Node, attachment: Attachment, netns_fd: int | None) -> None:
    try:
        _remove_rest(node, attachment, netns_fd)
    finally:
        node.state.delete(attachment.key)


def _remove_rest(node: Node, attachment: Attachment, netns_fd: int | None) -> None:
    """Remove what an attachment has beside its port. Goes on after errors, and raises the last."""
    with ExitStack() as all_of_it:
        if not node.wanted.has_socket(attachment.socket_path):  # as a pod's next sandbox may
            all_of_it.callback(_remove_interface, attachment, netns_fd)
        all_of_it.callback(node.masquerade.remove, attachment.key)
        if attachment.gateways:
            with node.converger.paused():
                if not node.wanted.has_gateway(attachment.network):
                    node.gateways.close(attachment.network)


def _remove_interface(attachment: Attachment, netns_fd: int | None) -> None:
    with step("interface"):
        interfaces.remove(attachment, netns_fd)


def _free_addresses(conf: NetConf, request: Request) -> None:
    try:
        ipam.delegate("DEL", conf, request, _UNDO_DEADLINE_S)
    except CniError as error:
        log.warning("undo of ADD: IPAM: %s", error.msg)


def _guess(node: Node, request: Request, conf: NetConf) -> Attachment | None:
    """Say what the attachment would be, for a DEL of which there is no record."""
    try:
        guess = draft(node.config, node.wanted, request, conf)
    except (CniError, OSError):
        return None  # an ADD like that cannot have succeeded
    return None if node.wanted.has_interface(guess) else guess


def _host_interface(node: Node, attachment: Attachment) -> spec.Interface | None:
    if not attachment.gateways:
        return None
    network = attachment.network
    return spec.Interface(
        name=gateway_ifname(network),
        mac=gateway_mac(network, str(node.config.dataplane.socket)),
        mtu=node.wanted.gateway_mtu(network),
    )


@contextmanager
def _as_cni_errors() -> Iterator[None]:
    """Give the failures of the parts the codes that the runtime sees."""
    try:
        yield
    except DataplaneUnavailable as error:
        raise CniError(Code.TRY_AGAIN_LATER, str(error)) from error
    except DataplaneError as error:
        raise CniError(Code.DATAPLANE, f"the dataplane refused: {error.message}") from error
    except StateError as error:
        raise CniError(Code.IO_FAILURE, f"agent.state_dir: {error}") from error
    except OSError as error:
        raise CniError(Code.NETWORK_SETUP, str(error)) from error
