"""Other limits for an attachment that is there: record, reconcile, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final

from cni_virtio.attach import Node
from cni_virtio.bandwidth import BandwidthError, changed
from cni_virtio.ports import pod_port_name
from cni_virtio.spec import CniError
from cni_virtio.state import Attachment, StateError
from dataplane.client import DataplaneError, DataplaneUnavailable
from dataplane.limits import MAX_BURST_BITS, MAX_RATE_BITS_S
from dataplane.wire import Limits

Turn = Callable[[str, str], AbstractContextManager[None]]
"""Holds off other calls: takes the name of the CNI network and the container's id."""

_MOST: Final = {
    "ingressRate": MAX_RATE_BITS_S,
    "ingressBurst": MAX_BURST_BITS,
    "egressRate": MAX_RATE_BITS_S,
    "egressBurst": MAX_BURST_BITS,
}


class LimitingError(Exception):
    """Limits that cannot be set; the text says why."""


def set_limits(node: Node, turn: Turn, port: str, change: Any) -> tuple[Limits, str]:
    """Change the limits of the attachment that a port belongs to, in the keys of CNI's conventions.

    Returns what is in force, and what keeps it from being so ("" if nothing does): it is recorded,
    and will be in force once the dataplane is there. Raises LimitingError.
    """
    wanted = _checked(change)
    attachment = _attachment(node, port)
    try:
        with turn(attachment.name, attachment.container_id):
            attachment = _attachment(node, port)
            limits = changed(attachment.limits, wanted)
            return limits, _put_in_force(node, attachment, limits)
    except (BandwidthError, StateError) as error:
        raise LimitingError(str(error)) from error
    except CniError as error:
        raise LimitingError(error.msg) from error


def _checked(change: Any) -> dict[str, int]:
    if not isinstance(change, dict) or not change:
        raise LimitingError(f"bandwidth: must be an object with any of {', '.join(_MOST)}")
    for key, value in change.items():
        if key not in _MOST:
            raise LimitingError(f"bandwidth: unknown key {key!r}; there are {', '.join(_MOST)}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST[key]:
            raise LimitingError(f"{key}: must be a whole number from 0 to {_MOST[key]}")
    return change


def _attachment(node: Node, port: str) -> Attachment:
    attachment = node.wanted.by_port(port)
    if attachment is None:
        raise LimitingError(f"{port!r} is no container's port; cni-virtioctl ports lists them")
    return attachment


def _put_in_force(node: Node, present: Attachment, limits: Limits) -> str:
    attachment = replace(present, limits=limits)
    _record(node, attachment)
    try:
        node.converger.settle(attachment.network, [pod_port_name(*attachment.key)])
    except (DataplaneUnavailable, OSError) as error:
        return str(error)
    except DataplaneError as error:
        _record(node, present)
        raise LimitingError(f"the dataplane refused: {error.message}") from error
    return ""


def _record(node: Node, attachment: Attachment) -> None:
    node.state.save(attachment)
    with node.converger.paused():  # else its port might not be wanted for a moment
        node.wanted.add(attachment)
