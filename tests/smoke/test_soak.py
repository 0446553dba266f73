"""A short soak with a fixed seed, most of it kills; `./dev soak` takes longer ones."""

from __future__ import annotations

import pytest

from tests.soak.growth import Sample, grown
from tests.soak.run import soak

SECONDS, SEED = 6, 20


@pytest.mark.timeout(120)
def test_a_short_soak() -> None:
    report = soak(SECONDS, SEED, 0, print)
    assert report.steps > 0
    print("\n".join(report.lines()))


def samples(counts: list[int], rss_kib: list[int], pid: int = 1) -> list[Sample]:
    """Samples, 40 steps apart, of one process."""
    return [
        Sample(40 * number, {"mbufs": count}, {("agent", pid): kib})
        for number, (count, kib) in enumerate(zip(counts, rss_kib, strict=True))
    ]


def test_what_grows_is_told() -> None:
    level, rising = [1] * 60, [40_000 + 40 * n for n in range(60)]
    assert grown(samples(level, [40_000] * 60)) == []
    assert grown(samples([1, *[4] * 59], [40_000] * 60)) == ["mbufs: 1 at step 0, 4 at step 2360"]
    (told,) = grown(samples(level, rising))
    assert told == "RSS of the agent: 1.00 KiB more with each of 2120 steps"
    # A restart is no growth, and hides none.
    later = [Sample(s.step + 2400, s.counts, {("agent", 2): 39_000}) for s in samples(level, level)]
    assert grown(samples(level, [40_000] * 60) + later) == []
    # Two that grow a little are not one that grows twice as much.
    little = [40_000 + 24 * n for n in range(60)]
    assert grown(samples(level, little) + samples(level, little, pid=2)) == []
