"""What the figures say: which targets are met, and where rate and cycles disagree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.measure import CYCLES, RATE, Outcome, Spread, Target

_TOSS_UP: Final = 0.01
"""How far from 1 a ratio has to be for one of the two to be ahead."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured of it; the figure is None where nothing was."""

    bench: str
    ours: str
    unit: str
    target: Target
    figure: Spread | None

    @property
    def met(self) -> bool:
        """Tell whether the median meets the target."""
        return self.figure is not None and self.target.holds(self.figure.median)

    @property
    def outcome(self) -> str:
        """Say `met`, `missed` or `not measured`, with the figure."""
        if self.figure is None:
            return "not measured"
        return f"{'met' if self.met else 'missed'}: {number(self.figure.median)}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return "x" if self.target.kind == "ratio" else f" {self.unit}"

    def __str__(self) -> str:
        target = self.target
        against = f" against {target.peer}" if target.peer else ""
        return f"{self.bench}: {target.metric}{against} {target}: {self.outcome}"


def verdicts(outcome: Outcome) -> list[Verdict]:
    """Judge every target of a bench."""
    bench = outcome.bench
    return [
        Verdict(
            bench.name, outcome.ours, bench.units[target.metric], target, outcome.figure(target)
        )
        for target in bench.targets
    ]


def disagreements(outcome: Outcome) -> Iterator[str]:
    """Say where the rate has another one ahead than the cycles per packet."""
    for peer in outcome.peers:
        rates, cycles = outcome.ratios(RATE, peer), outcome.ratios(CYCLES, peer)
        if not rates or not cycles:
            continue
        rate, cost = Spread.of(rates).median, Spread.of(cycles).median
        if min(abs(rate - 1), abs(cost - 1)) > _TOSS_UP and (rate > 1) != (cost < 1):
            by_rate, by_cost = _place(rate > 1), _place(cost < 1)
            yield (
                f"{outcome.bench.name}: {outcome.ours} is {by_rate} of {peer} by rate ({rate:.2f}x)"
                f" but {by_cost} of it by cycles per packet ({cost:.2f}x)"
            )


def _place(ahead: bool) -> str:
    return "ahead" if ahead else "short"


def number(value: float) -> str:
    """Write a figure with three digits, or all of those before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
