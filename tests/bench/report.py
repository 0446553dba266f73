"""What the benches gave, for people: a table, and below it what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.measure import Outcome, Spread, Target
from tests.bench.verdicts import Verdict, disagreements, number, verdicts


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the table, the disagreements, the targets that are missed, and the failures."""
    console.print(_table(outcomes))
    for line in (line for outcome in outcomes for line in disagreements(outcome)):
        console.print(f"[yellow]note[/] {escape(line)}", highlight=False, soft_wrap=True)
    judged = [verdict for outcome in outcomes for verdict in verdicts(outcome)]
    met = sum(verdict.met for verdict in judged)
    console.print(f"targets: {met} of {len(judged)} met", highlight=False)
    for verdict in judged:
        if not verdict.met:
            console.print(f"  {escape(str(verdict))}", highlight=False, soft_wrap=True)
    for line in failures(outcomes):
        console.print(f"[red]failed[/] {escape(line)}", highlight=False, soft_wrap=True)


def last_run(outcome: Outcome, subject: str) -> str:
    """Write what the last run of a subject gave, or why it failed."""
    if subject in outcome.failures:
        return f"failed: {_reason(outcome.failures[subject])}"
    units = outcome.bench.units
    figures = outcome.runs[subject][-1].items()
    return ", ".join(f"{metric} {number(value)} {units[metric]}" for metric, value in figures)


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Name each subject that could not be measured, with the last line of its reason."""
    return [
        f"{outcome.bench.name}, {subject}: {_reason(text)}"
        for outcome in outcomes
        for subject, text in outcome.failures.items()
    ]


def _reason(text: str) -> str:
    return text.rstrip().splitlines()[-1].strip()


def _table(outcomes: Sequence[Outcome]) -> Table:
    """Lay out every metric against every peer: ours, the peer's, their ratio, the targets."""
    shown = Table(
        title="Medians; ratios and differences pair by pair, with the lowest and the highest",
        title_justify="left",
    )
    shown.add_column("bench", no_wrap=True)
    shown.add_column("metric")
    shown.add_column("ours", justify="right", no_wrap=True)
    shown.add_column("peer")
    shown.add_column("peer's", justify="right", no_wrap=True)
    shown.add_column("ours / peer", justify="right", no_wrap=True)
    shown.add_column("target")
    for outcome in outcomes:
        for row in _rows(outcome):
            shown.add_row(*row)
        shown.add_section()
    return shown


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    bench = outcome.bench
    for metric, unit in bench.units.items():
        ours = outcome.values(outcome.ours, metric)
        if not ours:
            continue
        head = (bench.name, f"{metric}, {unit}" if unit else metric)
        mine = number(Spread.of(ours).median)
        alone, peers = _judged(outcome, metric, None), _peers_with(outcome, metric)
        if alone or not peers:
            yield (*head, _spread(Spread.of(ours)), "", "", "", alone)
        for peer in peers:
            theirs = number(Spread.of(outcome.values(peer, metric)).median)
            judged = _judged(outcome, metric, peer)
            yield (*head, mine, peer, theirs, _relation(outcome, metric, peer), judged)


def _peers_with(outcome: Outcome, metric: str) -> list[str]:
    return [peer for peer in outcome.peers if outcome.values(peer, metric)]


def _judged(outcome: Outcome, metric: str, peer: str | None) -> str:
    about = [v for v in verdicts(outcome) if (v.target.metric, v.target.peer) == (metric, peer)]
    return "\n".join(map(_colored, about))


def _colored(verdict: Verdict) -> str:
    return f"{verdict.target} [{'green' if verdict.met else 'red'}]{verdict.outcome}[/]"


def _relation(outcome: Outcome, metric: str, peer: str) -> str:
    if _is_difference(outcome.bench.targets, metric, peer):
        return _spread(Spread.of(outcome.differences(metric, peer)), "+.3g")
    ratios = outcome.ratios(metric, peer)
    return _spread(Spread.of(ratios), ".2f") if ratios else ""


def _is_difference(targets: Sequence[Target], metric: str, peer: str) -> bool:
    return any((t.metric, t.peer, t.kind) == (metric, peer, "difference") for t in targets)


def _spread(spread: Spread, form: str = "") -> str:
    median, low, high = (
        format(value, form) if form else number(value)
        for value in (spread.median, spread.low, spread.high)
    )
    return median if spread.low == spread.high else f"{median} ({low} to {high})"
