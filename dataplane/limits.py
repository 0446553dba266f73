"""Rate limits of a container's port, as the control socket carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dataplane import fields
from dataplane.fields import Fields, refuse

MAX_RATE_BITS_S = 10**15
"""As much as Kubernetes takes for a pod's bandwidth; far beyond 1 Tbit/s it limits nothing."""
MIN_RATE_BITS_S = 1000
MAX_BURST_BITS = 8 * ((1 << 32) - 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may pass a container's port: ingress is into the container, egress out of it.

    Rates are in bits per second, 0 for no limit; bursts, which may pass at once, in bits.
    """

    ingress_bits_s: int = 0
    ingress_burst_bits: int = 0
    egress_bits_s: int = 0
    egress_burst_bits: int = 0

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return self.ingress_bits_s > 0 or self.egress_bits_s > 0

    def to_json(self) -> dict[str, Any]:
        """Give the JSON object."""
        return {
            "ingress_bits_s": self.ingress_bits_s,
            "ingress_burst_bits": self.ingress_burst_bits,
            "egress_bits_s": self.egress_bits_s,
            "egress_burst_bits": self.egress_burst_bits,
        }

    @classmethod
    def from_json(cls, value: object, path: str = "limits") -> Limits:
        """Read and check a JSON object that was found at `path`.

        :raises WireError: `invalid`, naming the field at fault.
        """
        left = Fields(value, path)
        burst = fields.integer(0, MAX_BURST_BITS)
        limits = cls(
            ingress_bits_s=left.take_or("ingress_bits_s", _rate, 0),
            ingress_burst_bits=left.take_or("ingress_burst_bits", burst, 0),
            egress_bits_s=left.take_or("egress_bits_s", _rate, 0),
            egress_burst_bits=left.take_or("egress_burst_bits", burst, 0),
        )
        left.done()
        _check_burst(path, "ingress", limits.ingress_bits_s, limits.ingress_burst_bits)
        _check_burst(path, "egress", limits.egress_bits_s, limits.egress_burst_bits)
        return limits


def _rate(value: object, path: str) -> int:
    rate = fields.integer(0, MAX_RATE_BITS_S)(value, path)
    if 0 < rate < MIN_RATE_BITS_S:
        raise refuse(path, f"must be 0 or at least {MIN_RATE_BITS_S}", value)
    return rate


def _check_burst(path: str, direction: str, rate_bits_s: int, burst_bits: int) -> None:
    if bool(burst_bits) != bool(rate_bits_s):
        rule = "must be above 0 with a rate" if rate_bits_s else "must be 0 without a rate"
        raise refuse(f"{path}.{direction}_burst_bits", rule, burst_bits)
