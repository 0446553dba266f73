"""The frame of the benches: runs in turn, verdicts, and what is left out when one fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial

import pytest
from rich.console import Console

from tests.bench import leftovers
from tests.bench.interrupt import came_of_interrupt, interruptible, time_limit
from tests.bench.measure import Bench, Effort, Figures, Outcome, Subject, Target, run
from tests.bench.record import as_json
from tests.bench.report import failures, show
from tests.bench.verdicts import disagreements, verdicts

UNITS = {"rate": "Mpps", "cycles": "busy cycles/packet"}
TARGETS = (
    Target("rate", ">=", 0.9, "peer"),
    Target("rate", ">=", 1.1, "peer"),
    Target("rate", "<=", 1, "peer", "difference"),
    Target("cycles", "<=", 50, kind="value"),
)


def bench(*subjects: Subject) -> Bench:
    return Bench("pair", "two", subjects, UNITS, TARGETS)


def outcome(ours: list[Figures], theirs: list[Figures]) -> Outcome:
    nothing = Subject("", lambda _: {})
    subjects = (Subject("ours", nothing.run), Subject("peer", nothing.run))
    return Outcome(bench(*subjects), {"ours": ours, "peer": theirs})


def printed(found: Outcome) -> str:
    console = Console(width=200, record=True, quiet=False, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    show([found], console)
    return console.export_text()


def test_subjects_take_turns() -> None:
    order: list[str] = []

    def measure(name: str, _: Effort) -> Figures:
        order.append(name)
        return {"rate": 1.0}

    def subject(name: str) -> Subject:
        return Subject(name, partial(measure, name))

    found = run(bench(subject("ours"), subject("peer")), Effort(3, 0.1), lambda *_: None)
    assert order == ["ours", "peer"] * 3
    assert found.ratios("rate", "peer") == [1.0] * 3


def test_one_that_fails_does_not_lose_the_others() -> None:
    figures: Iterator[Figures] = iter([{"rate": 2.0}])
    peer = Subject("peer", lambda _: next(figures))
    found = run(bench(Subject("ours", lambda _: {"rate": 1.0}), peer), Effort(3), lambda *_: None)
    assert len(found.runs["ours"]) == 3
    assert found.ratios("rate", "peer") == [0.5]
    assert failures([found]) == ["pair, peer: StopIteration"]
    assert "failed pair, peer" in printed(found)


def test_clearing_up_after_an_interrupt_is_no_failure() -> None:
    def interrupted(_: Effort) -> Figures:
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("nobody there any more")

    with pytest.raises(KeyboardInterrupt):
        run(bench(Subject("ours", interrupted)), Effort(1), lambda *_: None)


def test_verdicts_are_of_the_medians() -> None:
    ours: list[Figures] = [{"rate": 10, "cycles": 40}, {"rate": 9, "cycles": 60}, {"rate": 10}]
    found = outcome(ours, [{"rate": 10}, {"rate": 10}, {"rate": 10}])
    said = [str(verdict) for verdict in verdicts(found)]
    assert said == [
        "pair: rate against peer >= 0.9x: met: 1x",
        "pair: rate against peer >= 1.1x: missed: 1x",
        "pair: rate against peer <= 1 more: met: 0 Mpps",
        "pair: cycles <= 50: met: 50 busy cycles/packet",
    ]
    assert "targets: 3 of 4 met" in printed(found)


def test_what_was_not_measured_is_not_met() -> None:
    assert [verdict.outcome for verdict in verdicts(outcome([], []))] == ["not measured"] * 4


@pytest.mark.parametrize(
    ("rate", "cycles", "disagree"),
    [(2.0, 0.5, False), (0.5, 2.0, False), (2.0, 2.0, True), (0.5, 0.5, True), (1.001, 2.0, False)],
)
def test_where_rate_and_cycles_disagree(rate: float, cycles: float, disagree: bool) -> None:
    found = outcome([{"rate": rate, "cycles": cycles}], [{"rate": 1, "cycles": 1}])
    assert len(list(disagreements(found))) == disagree


def test_json_has_everything() -> None:
    found = outcome([{"rate": 3, "cycles": 30}], [{"rate": 2, "cycles": 60}])
    record = json.loads(as_json([found], Effort(1, 0.3)))
    (one,) = record["benches"]
    assert record["effort"] == {"pairs": 1, "seconds": 0.3}
    assert one["runs"]["ours"] == [{"rate": 3, "cycles": 30}]
    assert one["ratios"]["peer"]["rate"]["median"] == 1.5
    assert [target["met"] for target in one["targets"]] == [True, True, True, True]


def test_a_run_has_a_limit() -> None:
    with pytest.raises(TimeoutError), time_limit(0.05):
        time.sleep(5)


def interrupted_twice() -> None:
    with interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)


def test_the_second_interrupt_does_not_disturb() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted_twice()
    assert came_of_interrupt(caught.value)
    assert signal.getsignal(signal.SIGINT) is before


def test_processes_left_behind_are_ended() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert leftovers.remove() == [f"process {process.pid} (sleep)"]
    assert leftovers.remove() == []
    process.wait()
