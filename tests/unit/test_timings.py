"""Where the time of calls goes: distributions, steps of a call, and what is shown of them."""

from __future__ import annotations

import random
import time
from typing import Any, cast

import pytest

from cni_virtio import requests as module
from cni_virtio.distribution import Distribution
from cni_virtio.framing import CNI_MAGIC, Frame
from cni_virtio.meanwhile import Meanwhile
from cni_virtio.operations import Operations
from cni_virtio.requests import Requests
from cni_virtio.timings import TOTAL, Stopwatch, Timings, begin, step
from cni_virtio.verbs import Verbs


def of(*seconds: float) -> Distribution:
    found = Distribution()
    for each in seconds:
        found.add(each)
    return found


def test_a_quantile_is_right_to_a_class() -> None:
    values = [random.Random(1).uniform(0.0001, 0.5) for _ in range(1000)]
    found, values = of(*values), sorted(values)
    for share in (0.5, 0.9, 0.99):
        exact = values[int(share * len(values)) - 1]
        assert exact <= found.quantile_s(share) <= 1.1 * exact
    assert found.quantile_s(1.0) == found.max_s == values[-1]
    assert found.count == 1000
    assert found.sum_s == pytest.approx(sum(values))


def test_a_distribution_of_nothing_and_of_no_time() -> None:
    assert of().quantile_s(0.99) == 0
    assert of(0.0).quantile_s(0.5) == 0


def test_what_does_not_exceed_a_bound() -> None:
    assert list(of(0.0005, 0.002, 0.002, 0.2).up_to((0.001, 0.01, 0.1, 1.0))) == [1, 3, 3, 4]


def test_steps_belong_to_the_call_under_way_also_in_other_threads() -> None:
    timings, watch = Timings(), begin()
    with step("parse"):
        pass

    def beside() -> None:
        with step("configure"):
            time.sleep(0.1)

    Meanwhile(beside).result()
    timings.add("ADD", watch)
    shown = {each["step"]: each for each in timings.shown()}
    assert list(shown) == ["parse", "configure", TOTAL]
    assert {each["verb"] for each in shown.values()} == {"ADD"}
    assert 100 <= shown["configure"]["max_ms"] <= shown[TOTAL]["max_ms"]
    assert shown["parse"]["max_ms"] < 100


def test_a_step_that_fails_is_measured_and_so_is_the_call() -> None:
    def fails() -> None:
        with step("lock"):
            raise ValueError

    timings, watch = Timings(), begin()
    with pytest.raises(ValueError):  # noqa: PT011 -- ours
        fails()
    timings.add("DEL", watch, code=11)
    assert [each["step"] for each in timings.shown()] == ["lock", TOTAL]
    assert timings.endings() == {("DEL", 11): 1}


def test_calls_do_not_get_each_others_steps() -> None:
    first = begin()
    second = begin()
    with step("parse"):
        pass
    assert [len(each.steps) for each in (first, second)] == [0, 1]


class Operating:
    """An operator's request that has a step, as `bandwidth` has."""

    def run(self, _body: bytes) -> dict[str, Any]:
        with step("lock"):
            return {}


@pytest.mark.parametrize("env", [b"CNI_COMMAND=VERSION\0", b"no variable\0"])
def test_steps_of_an_operator_are_not_the_last_call_s(
    env: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches: list[Stopwatch] = []

    def remembered() -> Stopwatch:
        watches.append(begin())
        return watches[-1]

    monkeypatch.setattr(module, "begin", remembered)
    requests = Requests(cast(Verbs, None), cast(Operations, Operating()), Timings())
    requests.serve(Frame(CNI_MAGIC, env, b"{}"))
    assert requests.serve(Frame(b"OPER", b"", b"{}")) == (0, b"{}")
    (watch,) = watches
    assert [name for name, _ in watch.steps] == ["parse"]
