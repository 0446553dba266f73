"""Two containers on taps that the dataplane reads and writes itself: `backend: tap`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.smoke.agent import node
from tests.smoke.attached import attached
from tests.smoke.container_checks import QUEUES, KernelContainers, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with (
        node("tap") as here,
        attached(here, "one", queues=QUEUES) as one,
        attached(here, "other", queues=QUEUES) as other,
    ):
        yield one, other


class TestOnTaps(KernelContainers):
    pass
