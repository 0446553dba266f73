"""A soak: random steps by a seed, each checked, until the time is over."""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.smoke.agent import node
from tests.soak import calls, checks, growth, kills, packets
from tests.soak.model import Model

Step = Callable[[Model], str]

CALM: Final[dict[Step, int]] = {
    calls.add: 10,
    calls.add_several: 2,
    calls.delete: 6,
    calls.delete_without_namespace: 2,
    calls.repeat: 2,
    calls.check: 4,
    calls.collect_garbage: 2,
    calls.change_bandwidth: 6,
    packets.between_containers: 10,
    packets.across_networks: 2,
    packets.application: 1,
}
"""Steps by how often they are taken."""
STORMY: Final[dict[Step, int]] = CALM | {
    kills.kill_dataplane: 2,
    kills.abort_dataplane: 1,
    kills.kill_agent: 2,
    kills.kill_both: 1,
    kills.restart: 1,
    kills.kill_agent_during_add: 3,
    kills.kill_dataplane_during_add: 3,
}
NEED_NOBODY: Final = {calls.add, calls.add_several, calls.collect_garbage, *kills.ALL}
EPOCH_STEPS: Final = 40
_REMEMBERED: Final = 15


class SoakError(Exception):
    """Something was not as the model has it."""


@dataclass
class Report:
    """What a soak did and saw."""

    seed: int
    calm: bool = False
    steps: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    samples: list[growth.Sample] = field(default_factory=list)
    silences_s: dict[str, list[float]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        yield f"seed {self.seed}: {self.steps} steps, {len(self.samples)} looks at what grows"
        yield ", ".join(f"{name} {n}" for name, n in self.taken.most_common())
        for who, silences_s in self.silences_s.items():
            longest, middle = max(silences_s), sorted(silences_s)[len(silences_s) // 2]
            times = (
                f"{len(silences_s)} times, {middle:.3f} s at the middle, {longest:.3f} s at most"
            )
            yield f"silence, {who}: {times}"
        if self.samples:
            yield f"in use: first {self.samples[0].counts}, last {self.samples[-1].counts}"
        for who in ("agent", "dataplane"):
            slope, steps = growth.rss_slope(self.samples, who)
            yield f"RSS of the {who}: {slope:+.2f} KiB a step, over {steps} steps"


def is_stormy(epoch: int) -> bool:
    """Tell whether there are kills: in epochs 0 to 5, 8 and 9, 16 and 17, 32 and 33 …

    What grows slowly shows only in processes that live long.
    """
    return any(n & (n - 1) == 0 for n in (epoch, epoch - 1))


def soak(
    seconds: float, seed: int, rest_s: float, tell: Callable[[str], None], *, calm: bool = False
) -> Report:
    """Take steps for so long, with a rest after each; `calm` ones kill nobody. Raises SoakError."""
    report, deadline_s = Report(seed, calm), time.monotonic() + seconds
    last: deque[str] = deque(maxlen=_REMEMBERED)
    with node(more_config="networks: []") as here, calls.spaces_of(here):
        model = Model(here, random.Random(seed), silences_s=report.silences_s)
        with _explained(report, last):
            while time.monotonic() < deadline_s:
                _step(model, report, last)
                time.sleep(rest_s)
                if report.steps % EPOCH_STEPS == 0:
                    _look(model, report)
                    tell(f"{report.steps} steps: {report.samples[-1].brief()}")
            _look(model, report)
    return report


@contextmanager
def _explained(report: Report, last: deque[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        steps = "\n".join(last)
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}: {place.line}"
        text = f"seed {report.seed}, step {report.steps}: {type(error).__name__}: {error}\n{where}"
        so_far = "\n".join(report.lines())
        raise SoakError(f"{text}\nthe last steps:\n{steps}\n{so_far}") from error


def _step(model: Model, report: Report, last: deque[str]) -> None:
    stormy = not report.calm and is_stormy(report.steps // EPOCH_STEPS)
    weights = STORMY if stormy else CALM
    possible = [step for step in weights if model.containers or step in NEED_NOBODY]
    (step,) = model.random.choices(possible, [weights[each] for each in possible])
    report.steps += 1
    report.taken[step.__name__] += 1
    last.append(f"{report.steps} {step.__name__} …")
    last[-1] = f"{report.steps} {step.__name__} {step(model)}"
    if step in kills.ALL:
        checks.comes_to_match(model)
    else:
        checks.matches(model)


def _look(model: Model, report: Report) -> None:
    """Detach all, see that nothing is left, and note what is in use."""
    for container in list(model.containers.values()):
        calls.detach(model, container)
    checks.is_empty(model)
    report.samples.append(growth.settled(model.node, report.steps, report.samples))
    if found := growth.grown(report.samples):
        raise AssertionError("; ".join(found))
