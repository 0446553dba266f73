"""Charts of what was measured: how far from its peers, and what a packet costs among many ports."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.catalogue import GROUPS
from tests.bench.measure import CYCLES, RATE, Outcome, Spread, Target
from tests.bench.ports import SCALE
from tests.bench.record import machine
from tests.bench.verdicts import number

PUBLISHED: Final = Path("tests/bench/charts")

# Okabe and Ito's colours, which the colour-blind tell apart; the markers differ too.
_MET: Final = ("#0072B2", "o")
_MISSED: Final = ("#D55E00", "X")
_FOR_INFORMATION: Final = ("#777777", "s")
_LEGEND: Final = {"target met": _MET, "target missed": _MISSED, "no target": _FOR_INFORMATION}
_DPI: Final = 130
_WIDTH_IN: Final = 10.5
_ROW_IN: Final = 0.36


def draw(outcomes: Sequence[Outcome], directory: Path) -> None:
    """Write the charts as PNG, in place of earlier ones."""
    for old in directory.glob("*.png"):
        old.unlink()
    for group, benches in GROUPS.items():
        rows = [row for each in outcomes if each.bench in benches for row in _rows(each)]
        if rows:
            _ratios(group, rows).savefig(directory / f"{_slug(group)}.png", dpi=_DPI)
    for outcome in outcomes:
        if outcome.bench is SCALE and all(outcome.runs.values()):
            _scale(outcome).savefig(directory / "scale.png", dpi=_DPI)


def publish(directory: Path) -> Path:
    """Put the charts, and the figures they show, where README.md has them from."""
    PUBLISHED.mkdir(exist_ok=True)
    for path in (*directory.glob("*.png"), directory / "bench.json"):
        shutil.copy(path, PUBLISHED)
    return PUBLISHED


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a chart: a ratio with its range and targets, and how it is written out."""

    label: str
    spread: Spread
    targets: tuple[Target, ...]
    text: str

    @property
    def style(self) -> tuple[str, str]:
        """Colour and marker."""
        if not self.targets:
            return _FOR_INFORMATION
        return _MET if all(t.holds(self.spread.median) for t in self.targets) else _MISSED


def _rows(outcome: Outcome) -> Iterator[_Row]:
    bench = outcome.bench
    if bench is SCALE:
        return
    yield from _rows_of_limits(outcome)
    for peer in outcome.peers:
        for metric in bench.units:
            about = tuple(
                target
                for target in bench.targets
                if (target.metric, target.peer, target.kind) == (metric, peer, "ratio")
            )
            ratios = outcome.ratios(metric, peer)
            if ratios and min(ratios) > 0 and (about or metric in (RATE, CYCLES)):
                spread = Spread.of(ratios)
                text = f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"
                yield _Row(f"{bench.name}: {metric} / {peer}", spread, about, text)


def _rows_of_limits(outcome: Outcome) -> Iterator[_Row]:
    """Give the figures that have a limit of their own, as shares of it."""
    bench = outcome.bench
    for target in bench.targets:
        figure = outcome.figure(target)
        if target.kind != "ratio" and target.limit > 0 and figure and figure.low > 0:
            shares = (each / target.limit for each in (figure.median, figure.low, figure.high))
            against = f" - {target.peer}" if target.peer else ""
            unit = bench.units[target.metric]
            yield _Row(
                f"{bench.name}: {target.metric}{against} / {target.limit:g} {unit}",
                Spread(*shares),
                (Target(target.metric, target.bound, 1.0),),
                f"{number(figure.median)} ({number(figure.low)} to {number(figure.high)}) {unit}",
            )


def _ratios(group: str, rows: Sequence[_Row]) -> Figure:
    figure = Figure(figsize=(_WIDTH_IN, 1.9 + _ROW_IN * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2))
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.set_xlabel("cni-virtio / peer, pair by pair: median, lowest to highest")
    for name, (colour, marker) in _LEGEND.items():
        axes.plot([], [], marker, color=colour, label=name)
    axes.plot([], [], ">", color="black", label="target, pointing to where it is met")
    figure.legend(loc="outside lower right", ncols=4, fontsize="small", frameon=False)
    _title(figure, axes, f"{group}: cni-virtio against its peers, in turn on the same cores")
    return figure


def _draw_row(axes: Axes, place: int, row: _Row) -> None:
    colour, marker = row.style
    spread = row.spread
    for target in row.targets:
        sign = 1 if target.bound == ">=" else -1
        axes.vlines(target.limit, place - 0.4, place + 0.4, color="black", linewidth=1.5)
        axes.annotate(
            "",
            (target.limit, place + 0.32),
            xytext=(8 * sign, 0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "<|-", "color": "black", "shrinkA": 0, "shrinkB": 0},
        )
    axes.plot([spread.low, spread.high], [place, place], color=colour, linewidth=4, alpha=0.35)
    axes.plot([spread.median], [place], marker, color=colour, markersize=7)
    at_right = axes.get_yaxis_transform()
    axes.text(1.01, place, row.text, transform=at_right, va="center", fontsize="small")


def _scale(outcome: Outcome) -> Figure:
    """Draw cycles per packet over the number of ports."""
    points = sorted(
        (int(digits[0]), Spread.of(outcome.values(subject.name, CYCLES)))
        for subject in outcome.bench.subjects
        if (digits := re.findall(r"\d+", subject.name))
    )
    counts, spreads = [count for count, _ in points], [spread for _, spread in points]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    figure = Figure(figsize=(_WIDTH_IN, 4.2), layout="constrained")
    axes = figure.subplots()
    colour, marker = _MET
    axes.errorbar(counts, medians, [below, above], fmt=f"{marker}-", color=colour, capsize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd")
    axes.set_xlabel("attached ports, two of them busy")
    axes.set_ylabel("busy cycles per packet")
    _title(figure, axes, "What a packet costs among many ports: median, lowest and highest")
    return figure


def _title(figure: Figure, axes: Axes, text: str) -> None:
    about = machine()
    below = f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, {about['date']}"
    figure.suptitle(text, x=0.01, ha="left", fontsize="medium", fontweight="bold")
    axes.set_title(below, loc="left", fontsize="small", color="#555555")


def _slug(text: str) -> str:
    return text.lower().replace(" ", "-")
