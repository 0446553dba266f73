"""What the verbs work on, and how the failures of its parts reach the runtime."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cni_virtio.config import AgentConfig
from cni_virtio.converge import Converger
from cni_virtio.gateway import Gateways
from cni_virtio.masquerade import Masquerade
from cni_virtio.spec import CniError, Code
from cni_virtio.state import StateDir, StateError
from cni_virtio.wanted import Wanted
from dataplane.client import DataplaneError, DataplaneUnavailable


@dataclass(frozen=True)
class Node:
    """All that the verbs work on."""

    config: AgentConfig
    state: StateDir
    wanted: Wanted
    gateways: Gateways
    masquerade: Masquerade
    converger: Converger


@contextmanager
def as_cni_errors() -> Iterator[None]:
    """Give the failures of the parts the codes that the runtime sees."""
    try:
        yield
    except DataplaneUnavailable as error:
        raise CniError(Code.TRY_AGAIN_LATER, str(error)) from error
    except DataplaneError as error:
        raise CniError(Code.DATAPLANE, f"the dataplane refused: {error.message}") from error
    except StateError as error:
        raise CniError(Code.IO_FAILURE, f"agent.state_dir: {error}") from error
    except OSError as error:
        out_of_fds = error.errno in (errno.EMFILE, errno.ENFILE)
        code = Code.TRY_AGAIN_LATER if out_of_fds else Code.NETWORK_SETUP
        raise CniError(code, str(error)) from error
