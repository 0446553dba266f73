"""DEL of one attachment, and removing one of which no DEL comes."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace

from cni_virtio import interfaces, ipam, ipam_orphans, leases, links
from cni_virtio.draft import draft
from cni_virtio.errand import Errand
from cni_virtio.netconf import NetConf
from cni_virtio.node import Node, as_cni_errors
from cni_virtio.ports import gateway_ifname, gateway_port_name, pod_port_name
from cni_virtio.spec import CniError, Request
from cni_virtio.state import Attachment, Key, StateError
from cni_virtio.timings import step
from dataplane.client import DataplaneError, DataplaneUnavailable

log = logging.getLogger(__name__)


def detach(node: Node, request: Request, conf: NetConf) -> None:
    """Carry out a DEL. What is gone already is fine; raises CniError if something stays."""
    attachment = _found(node, Key(request.container_id, request.ifname))
    if attachment is None:
        attachment = _guess(node, request, conf)
    elif attachment.name != conf.name:
        attachment = None  # of another network: not this call's to remove
    through_it = ipam.needs_interface(conf.ipam_type)
    with as_cni_errors(), ExitStack() as both:
        if attachment is not None:
            _begin_removal(node, attachment)
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
    """Remove port and container's end, not the record. Raises CniError or OSError if any stays."""
    attachment = node.wanted.get(attachment.key) or attachment  # as it is by now
    _unplug(node, attachment)
    _remove_rest(node, attachment, netns_fd)


def reclaim(node: Node, attachment: Attachment, cni_path: str = "") -> None:
    """Remove all of an attachment that no DEL removes, its addresses included.

    The record goes last, so that what failed can be repeated. IPAM plugins are looked for along
    `cni_path`, or else where the ADD's were. Raises CniError or OSError if something stays.
    """
    through_it = ipam.needs_interface(attachment.ipam_type)
    if not attachment.is_whole:
        ipam_orphans.await_end(attachment)
    with as_cni_errors():
        _begin_removal(node, attachment)
        try:
            if through_it:
                _free(attachment, cni_path)
        finally:
            _unplug(node, attachment)
            _remove_rest(node, attachment, None)
        if not through_it:
            _free(attachment, cni_path)
        with step("record end"):
            node.state.delete(attachment.key)


def _free(attachment: Attachment, cni_path: str) -> None:
    with step("ipam"):
        leases.free(attachment, cni_path)


def port_names(attachment: Attachment) -> list[str]:
    """Name the ports that an attachment brings along, or takes with it as the last."""
    return [pod_port_name(*attachment.key), gateway_port_name(attachment.network)]


def _found(node: Node, key: Key) -> Attachment | None:
    """Return what is attached, or what an agent that was killed has left half attached."""
    attachment = node.wanted.get(key)
    if attachment is None and (attachment := node.state.get(key)) is not None:
        ipam_orphans.await_end(attachment)
    return attachment


def _begin_removal(node: Node, attachment: Attachment) -> None:
    """Have on record that it goes: of what is half removed, the next agent removes the rest.

    Does not fail: a disk that is full must not keep a container from being removed.
    """
    present = node.state.get(attachment.key)
    if present is not None and present.is_whole:
        try:
            with step("record"):
                node.state.save(replace(present, result={}))
        except StateError as error:
            log.warning("%s/%s: removed all the same: %s", *attachment.key, error)


def _unplug(node: Node, attachment: Attachment) -> None:
    """Remove the port, and the host's with the last that wanted it.

    Does not fail: without a dataplane there is no port, and it will not be wanted any more.
    """
    node.wanted.remove(attachment.key)
    with step("dataplane"):
        _withdraw(node, attachment, port_names(attachment))


def _withdraw(node: Node, attachment: Attachment, names: list[str]) -> None:
    try:
        node.converger.withdraw(attachment.network, names)
    except DataplaneUnavailable as error:
        log.info("%s/%s: its port is removed later: %s", *attachment.key, error)
    except (DataplaneError, OSError) as error:
        log.warning("%s/%s: its port is removed later: %s", *attachment.key, error)
        node.converger.doubt()


def _forget(node: Node, attachment: Attachment, netns_fd: int | None) -> None:
    try:
        _remove_rest(node, attachment, netns_fd)
    finally:
        with step("record end"):
            node.state.delete(attachment.key)


def _remove_rest(node: Node, attachment: Attachment, netns_fd: int | None) -> None:
    """Remove what an attachment has beside its port. Goes on after errors, and raises the last."""
    with ExitStack() as all_of_it:
        if not node.wanted.has_socket(attachment.socket_path):  # as a pod's next sandbox may
            all_of_it.callback(_remove_interface, attachment, netns_fd)
        all_of_it.callback(_remove_masquerade, node, attachment.key)
        _remove_gateway(node, attachment)


def _remove_gateway(node: Node, attachment: Attachment) -> None:
    """Remove the host's interface once nobody wants it, whichever agent made it."""
    network = attachment.network
    if node.wanted.has_gateway(network) or not links.exists(None, gateway_ifname(network)):
        return
    with step("gateway"), node.converger.paused():
        if not node.wanted.has_gateway(network):
            # Else an ADD could find the port that another DEL is about to remove.
            _withdraw(node, attachment, [gateway_port_name(network)])
            node.gateways.close(network)


def _remove_masquerade(node: Node, key: Key) -> None:
    with step("masquerade"):
        node.masquerade.remove(key)


def _remove_interface(attachment: Attachment, netns_fd: int | None) -> None:
    with step("interface"):
        interfaces.remove(attachment, netns_fd)


def _guess(node: Node, request: Request, conf: NetConf) -> Attachment | None:
    """Say what the attachment would be, for a DEL of which there is no record."""
    try:
        guess = draft(node.config, node.wanted, request, conf)
    except (CniError, OSError):
        return None  # an ADD like that cannot have succeeded
    return None if node.wanted.has_interface(guess) else guess
