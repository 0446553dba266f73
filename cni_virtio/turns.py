"""Whose turn it is: calls of one container follow each other, GC excludes all of its network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final

from cni_virtio.locks import KeyedLocks, LockTimeoutError
from cni_virtio.spec import CniError, Code
from cni_virtio.timings import step

_PATIENCE_S: Final = 60.0


class Turns:
    """Held for as long as a call works on a container, or on all of a network (by netconf name)."""

    def __init__(self) -> None:
        self._networks = KeyedLocks()
        self._containers = KeyedLocks()

    @contextmanager
    def of_container(self, network: str, container_id: str) -> Iterator[None]:
        """Take the turn of one container. Raises CniError 11."""
        shared = self._networks.shared(network, _PATIENCE_S)
        own = self._containers.exclusive(container_id, _PATIENCE_S)
        with ExitStack() as held:
            with step("lock"):
                held.enter_context(_waited_for(shared))
                held.enter_context(_waited_for(own))
            yield

    @contextmanager
    def of_network(self, network: str) -> Iterator[None]:
        """Take the turn of every container of a network. Raises CniError 11."""
        with _waited_for(self._networks.exclusive(network, _PATIENCE_S)):
            yield


@contextmanager
def _waited_for(lock: AbstractContextManager[None]) -> Iterator[None]:
    """Hold a lock. Raises CniError 11 if it is not to be had in time."""
    with ExitStack() as held:
        try:
            held.enter_context(lock)
        except LockTimeoutError as error:
            msg = f"another call for the same container or network is under way: {error}"
            raise CniError(Code.TRY_AGAIN_LATER, msg) from None
        yield
