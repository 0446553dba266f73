"""A comparison: subjects measured in turn, A B A B, and what their figures have to be."""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.bench.interrupt import came_of_interrupt, time_limit

Figures = Mapping[str, float]
"""What one run of one subject gave, by metric."""

Kind = Literal["ratio", "difference", "value"]
Bound = Literal[">=", "<="]

PAIRS: Final = 5
SECONDS: Final = 1.5
RATE: Final = "rate"
"""The metric that says how much gets through; more is better."""
CYCLES: Final = "cycles"
"""The metric that says what a packet costs the forwarder; fewer is better."""

_RUN_LIMIT_S: Final = 90


@dataclass(frozen=True, slots=True)
class Effort:
    """How often and how long each subject is measured."""

    pairs: int = PAIRS
    seconds: float = SECONDS

    @property
    def quick(self) -> bool:
        """Tell whether the run only shows that the benches work."""
        return self.pairs == 1


@dataclass(frozen=True, slots=True)
class Target:
    """What a metric of ours has to be: against a peer (ratio, difference), or by itself (value)."""

    metric: str
    bound: Bound
    limit: float
    peer: str | None = None
    kind: Kind = "ratio"

    def holds(self, value: float) -> bool:
        """Tell whether a figure of this target's kind meets it."""
        return value >= self.limit if self.bound == ">=" else value <= self.limit

    def __str__(self) -> str:
        suffix = "x" if self.kind == "ratio" else " more" if self.kind == "difference" else ""
        return f"{self.bound} {self.limit:g}{suffix}"


@dataclass(frozen=True, slots=True)
class Subject:
    """One of those compared; `run` sets it up, measures it for so many seconds, and removes it."""

    name: str
    run: Callable[[Effort], Figures]


@dataclass(frozen=True, slots=True)
class Bench:
    """A comparison; the first subject is ours. `units` has every metric, in the order shown.

    A bench of packets calls its metrics RATE and CYCLES: where they disagree, the report says so.
    """

    name: str
    title: str
    subjects: tuple[Subject, ...]
    units: Mapping[str, str]
    targets: tuple[Target, ...] = ()
    packages: tuple[str, ...] = ()
    """Debian packages that it needs beside those of `./dev setup`."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of what several runs gave."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise; at least one value is needed."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(slots=True)
class Outcome:
    """All runs of a bench: for each subject its figures, in order."""

    bench: Bench
    runs: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Subjects that could not be measured to the end, each with its traceback."""
    took_s: float = 0.0

    @property
    def ours(self) -> str:
        """Name of the first subject."""
        return self.bench.subjects[0].name

    @property
    def peers(self) -> tuple[str, ...]:
        """Names of the other subjects."""
        return tuple(subject.name for subject in self.bench.subjects[1:])

    def values(self, subject: str, metric: str) -> list[float]:
        """Return what the runs of a subject gave; empty if it does not have this metric."""
        return [run[metric] for run in self.runs[subject] if metric in run]

    def ratios(self, metric: str, peer: str) -> list[float]:
        """Return ours / peer, pair by pair; empty where one of them lacks the metric."""
        pairs = zip(self.values(self.ours, metric), self.values(peer, metric), strict=False)
        return [ours / theirs for ours, theirs in pairs if theirs != 0]

    def differences(self, metric: str, peer: str) -> list[float]:
        """Return ours - peer, pair by pair; empty where one of them lacks the metric."""
        pairs = zip(self.values(self.ours, metric), self.values(peer, metric), strict=False)
        return [ours - theirs for ours, theirs in pairs]

    def figure(self, target: Target) -> Spread | None:
        """Return what a target is about, or None where nothing was measured."""
        if target.peer is None:
            values = self.values(self.ours, target.metric)
        elif target.kind == "ratio":
            values = self.ratios(target.metric, target.peer)
        else:
            values = self.differences(target.metric, target.peer)
        return Spread.of(values) if values else None


def run(bench: Bench, effort: Effort, tell: Callable[[Outcome, Subject], None]) -> Outcome:
    """Measure all subjects in turn, and tell of each run.

    A subject that fails is left out from then on, and the others are measured all the same.
    """
    outcome = Outcome(bench, {subject.name: [] for subject in bench.subjects})
    began_s = time.monotonic()
    for _ in range(effort.pairs):
        for subject in bench.subjects:
            if subject.name not in outcome.failures:
                _run_once(subject, effort, outcome)
                tell(outcome, subject)
    outcome.took_s = time.monotonic() - began_s
    return outcome


def _run_once(subject: Subject, effort: Effort, outcome: Outcome) -> None:
    try:
        with time_limit(_RUN_LIMIT_S + effort.seconds):
            figures = subject.run(effort)
        outcome.runs[subject.name].append(figures)
    except Exception as error:
        if came_of_interrupt(error):
            raise KeyboardInterrupt from error
        outcome.failures[subject.name] = "".join(traceback.format_exception(error))
