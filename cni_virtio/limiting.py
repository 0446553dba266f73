"""Other limits for an attachment that is there: record, reconcile, report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cni_virtio.bandwidth import BandwidthError, changed
from cni_virtio.node import Node
from cni_virtio.ports import pod_port_name
from cni_virtio.spec import CniError
from cni_virtio.state import Attachment, StateError
from cni_virtio.turns import Turns
from dataplane.client import DataplaneError, DataplaneUnavailable
from dataplane.limits import MAX_BURST_BITS, MAX_RATE_BITS_S

_MOST: Final = {
    "ingressRate": MAX_RATE_BITS_S,
    "ingressBurst": MAX_BURST_BITS,
    "egressRate": MAX_RATE_BITS_S,
    "egressBurst": MAX_BURST_BITS,
}


class LimitingError(Exception):
    """Limits that cannot be set; the text says why."""


def find(node: Node, text: str) -> Attachment:
    """Find the one attachment that has the text in its port's name or its pod's.

    A port's whole name is always that port's. Raises LimitingError.
    """
    exact = node.wanted.by_port(text)
    if exact is not None:
        return exact
    found = [each for each in node.wanted.all() if any(text in name for name in _names(each))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LimitingError(f"no container's port is called {text!r}: cni-virtioctl ports has them")
    some = ", ".join(pod_port_name(*each.key) for each in found[:5])
    raise LimitingError(f"{len(found)} ports are called {text!r}, among them {some}: name one")


def set_limits(
    node: Node, turns: Turns, attachment: Attachment, change: Any
) -> tuple[Attachment, str]:
    """Change the limits of an attachment, in the keys of CNI's conventions.

    Returns it as it is recorded, and what keeps it from being in force ("" if nothing does): then
    it will be once the dataplane is there. Raises LimitingError.
    """
    wanted = _checked(change)
    try:
        with turns.of_container(attachment.name, attachment.container_id):
            present = node.state.get(attachment.key)
            if present is None or not present.is_whole:
                raise LimitingError(f"{pod_port_name(*attachment.key)} has just gone")
            fresh = replace(present, limits=changed(present.limits, wanted))
            return fresh, _put_in_force(node, present, fresh)
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


def _names(attachment: Attachment) -> tuple[str, ...]:
    pod = f"{attachment.labels.get('namespace', '')}/{attachment.labels.get('pod', '')}"
    return pod_port_name(*attachment.key), f"{pod} {attachment.ifname}"


def _put_in_force(node: Node, present: Attachment, fresh: Attachment) -> str:
    _record(node, fresh)
    try:
        node.converger.settle(fresh.network, [pod_port_name(*fresh.key)])
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
