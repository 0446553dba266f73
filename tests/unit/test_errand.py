"""What is done once, by whoever has the time, and whose failure waits."""

from __future__ import annotations

import pytest

from cni_virtio.errand import Errand


def test_it_is_done_once_by_whoever_comes_first() -> None:
    done: list[int] = []
    errand = Errand(lambda: done.append(1))
    assert not done
    errand.run()
    errand.run()
    errand.result()
    assert done == [1]
    late = Errand(lambda: done.append(2))
    late.result()
    assert done == [1, 2]


def test_its_failure_waits_for_who_asks() -> None:
    def fails() -> None:
        raise OSError("no")

    errand = Errand(fails)
    errand.run()
    with pytest.raises(OSError, match="no"):
        errand.result()
