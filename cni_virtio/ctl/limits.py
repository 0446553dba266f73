"""The rate limits of a port, and what they did, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_SCALES: Final = (("", 1), ("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12))


def limits_lines(item: dict[str, Any], *, always: bool = False) -> Iterator[tuple[str, str]]:
    """Describe the limit of each direction, and what it did; of those without one if `always`."""
    limits, counters = item["spec"].get("limits") or {}, item.get("counters") or {}
    drops = counters.get("drops") or {}
    done = {
        "ingress": f"{counters.get('ingress_held_packets', 0)} packets held,"
        f" {drops.get('ingress_limit', 0)} dropped",
        "egress": f"{counters.get('egress_pauses', 0)} pauses",
    }
    for direction, text in done.items():
        rate = limits.get(f"{direction}_bits_s", 0)
        burst = amount(limits.get(f"{direction}_burst_bits", 0))
        if rate:
            yield direction, f"{amount(rate)}bit/s, burst {burst}bit; {text}"
        elif always:
            yield direction, f"no limit; {text}"


def amount(bits: int) -> str:
    """Write a number with at most three digits after the point, and its unit's prefix."""
    prefix, scale = next(
        ((name, scale) for name, scale in reversed(_SCALES) if bits >= scale), _SCALES[0]
    )
    return f"{bits / scale:.3f}".rstrip("0").rstrip(".") + f" {prefix}"
