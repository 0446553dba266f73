"""Bandwidth as CNI's conventions have it (bits per second, bits), and the limits that it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dataplane.limits import MAX_BURST_BITS, MIN_RATE_BITS_S
from dataplane.wire import Limits

_DEFAULT_BURST_S: Final = 0.02
_DEFAULT_BURST_BITS: Final = 32 * 1024 * 8
# A worker that wakes late makes up for it out of the burst: with less the rate is not reached.
_LEAST_BURST_S: Final = 0.004
_LEAST_BURST_BITS: Final = 4 * 1024 * 8
_NOT_GIVEN: Final = (0, 2**31 - 1, 2**32 - 1)
"""What kubelets (the second) and containerd (the third) pass for a pod, which has no burst."""


class BandwidthError(ValueError):
    """A rate or burst that cannot be; the text begins with its key."""


def limits(bandwidth: Mapping[str, int]) -> Limits:
    """Make the limits of `ingressRate`, `ingressBurst`, `egressRate` and `egressBurst`.

    What is missing or 0 is no limit, or the burst that suits the rate; a burst too small for the
    rate to be held is raised. Raises BandwidthError.
    """
    ingress, egress = (_direction(bandwidth, each) for each in ("ingress", "egress"))
    return Limits(*ingress, *egress)


def bandwidth(limits: Limits) -> dict[str, int]:
    """Give the keys that limits were made of."""
    return {
        "ingressRate": limits.ingress_bits_s,
        "ingressBurst": limits.ingress_burst_bits,
        "egressRate": limits.egress_bits_s,
        "egressBurst": limits.egress_burst_bits,
    }


def changed(present: Limits, change: Mapping[str, int]) -> Limits:
    """Give limits with other rates or bursts; a new rate has its own burst. Raises BandwidthError.

    A rate of 0 lifts the limit of its direction.
    """
    left = bandwidth(present)
    for direction in ("ingress", "egress"):
        if f"{direction}Rate" in change:
            del left[f"{direction}Rate"], left[f"{direction}Burst"]
    return limits({**left, **change})


def _direction(bandwidth: Mapping[str, int], direction: str) -> tuple[int, int]:
    rate = int(bandwidth.get(f"{direction}Rate", 0))
    burst = int(bandwidth.get(f"{direction}Burst", 0))
    if rate == 0:
        if burst in _NOT_GIVEN:
            return 0, 0
        raise BandwidthError(f"{direction}Burst: {burst} without {direction}Rate has no meaning")
    if rate < MIN_RATE_BITS_S:
        reason = f"{rate} is neither 0 (no limit) nor at least {MIN_RATE_BITS_S} bits/s"
        raise BandwidthError(f"{direction}Rate: {reason}")
    if burst in _NOT_GIVEN:
        burst = max(int(rate * _DEFAULT_BURST_S), _DEFAULT_BURST_BITS)
    least = max(int(rate * _LEAST_BURST_S), _LEAST_BURST_BITS)
    return rate, min(max(burst, least), MAX_BURST_BITS)
