"""The dataplane for another supervisor: this process becomes what the agent would have started."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from cni_virtio import cores, folders
from cni_virtio.config import AgentConfig
from cni_virtio.dataplane_process import command
from cni_virtio.hugepages import Hugepages

log = logging.getLogger(__name__)


def become_dataplane(config: AgentConfig) -> NoReturn:
    """Have hugepages ready and execute the dataplane that the configuration describes.

    The process stays the same, which is what a supervisor knows it by. Raises OSError.
    """
    folders.make(config.agent.state_dir.parent, 0o755)
    config.agent.state_dir.mkdir(mode=0o700, exist_ok=True)
    folders.make(config.dataplane.socket.parent, 0o755)
    page_note = Hugepages(config.agent.state_dir).provide(config.dataplane.memory_bytes)
    for note in (page_note, *cores.notes(config.dataplane.cores)):
        if note:
            log.warning("dataplane: %s", note)
    words = command(config, not page_note)
    sys.stderr.flush()
    os.execv(words[0], list(words))
