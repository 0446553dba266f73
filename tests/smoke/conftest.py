"""Fixtures of the tests with real traffic: they need root, and the engine built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.stage import Stage, staged
from tests.smoke.agent import Node, containers, node
from tests.smoke.prerequisites import missing, skip_or_fail
from tests.smoke.topology import Lab, dataplane_in_host, lab_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.netns import Netns
    from tests.unit.dataplane_process import Dataplane


@pytest.fixture(scope="session", autouse=True)
def prerequisites() -> None:
    if reason := missing():
        skip_or_fail(reason)


@pytest.fixture(scope="session")
def dataplane_and_host(prerequisites: None) -> Iterator[tuple[Dataplane, Netns]]:
    """One dataplane with one worker, for all tests that leave it as they found it."""
    with dataplane_in_host() as both:
        yield both


@pytest.fixture
def lab(dataplane_and_host: tuple[Dataplane, Netns]) -> Iterator[Lab]:
    """An empty lab for one test."""
    with lab_on(*dataplane_and_host) as lab:
        yield lab


@pytest.fixture(scope="module")
def module_lab(dataplane_and_host: tuple[Dataplane, Netns]) -> Iterator[Lab]:
    """An empty lab for the tests of one module."""
    with lab_on(*dataplane_and_host) as lab:
        yield lab


@pytest.fixture(scope="module")
def shared(prerequisites: None) -> Iterator[Node]:
    """A node with a running agent, for the tests of one module."""
    with node() as one:
        yield one


@pytest.fixture
def here(shared: Node) -> Iterator[Node]:
    """The node, on which the test must leave nothing."""
    yield shared
    assert shared.ports() == set()
    assert shared.left_over() == {}


@pytest.fixture
def a() -> Iterator[Netns]:
    """A container's namespace."""
    with containers(1) as (one,):
        yield one


@pytest.fixture(scope="module")
def stage(module_lab: Lab) -> Iterator[Stage]:
    """Two containers that notice nothing of what one module's tests do to a socket."""
    with staged(module_lab) as stage:
        yield stage


@pytest.fixture
def victim(stage: Stage) -> Iterator[Stage]:
    """The same for one test, after which nobody must be harmed."""
    yield stage
    stage.assert_unharmed()
