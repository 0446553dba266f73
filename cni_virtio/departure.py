"""Deleting an interface without the wait for its memory.

An interface that has left its namespace's list cannot be found or used any more, and its name is
free. The kernel acknowledges a deletion only after that, when an RCU barrier has passed: 16 ms or
more, in which nothing is left to be done. An agent that is killed then has no part in it either.
"""

from __future__ import annotations

import os
from typing import Final

from cni_virtio import links
from cni_virtio.meanwhile import Meanwhile

_LOOK_EVERY_S: Final = 0.0005


def delete_link(netns_fd: int | None, ifname: str, driver: str) -> None:
    """Delete an interface of this driver, and return when it is gone from its namespace.

    One that is gone already is fine. Raises NetnsError as `links.delete_link` does.
    """
    # What is begun here may go on after the return: it must not hit an interface that comes then.
    index = links.index_of(netns_fd, ifname)
    if index is None:
        return
    own_fd = None if netns_fd is None else os.dup(netns_fd)  # it may outlast the caller's
    deletion = Meanwhile(lambda: _delete(own_fd, ifname, driver, index))
    while not deletion.ended(_LOOK_EVERY_S):
        if links.index_of(netns_fd, ifname) != index:
            return
    deletion.result()


def _delete(own_fd: int | None, ifname: str, driver: str, index: int) -> None:
    try:
        links.delete_link(own_fd, ifname, driver, index)
    finally:
        if own_fd is not None:
            os.close(own_fd)
