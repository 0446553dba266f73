"""The capabilities that the agent keeps, and with it the IPAM plugins that it executes."""

from __future__ import annotations

from typing import Final

from cni_virtio.config import AgentConfig
from dataplane import privileges

AGENT: Final = {
    "NET_ADMIN": "interfaces, addresses and routes, of the node and of containers",
    "SYS_ADMIN": "setns() into containers' namespaces",
    "SYS_PTRACE": "namespaces by /proc/PID/ns: named so by a runtime, or in use by a process",
    "DAC_OVERRIDE": "removing sockets from folders that belong to the application's user",
    "CHOWN": "handing those folders over to that user",
    "FOWNER": "their mode, if that user has changed it",
}
"""What the agent needs as long as it runs, and why."""


def keep_needed(config: AgentConfig) -> None:
    """Give up every other capability, before there is a second thread.

    What the dataplane needs is kept where the agent starts it, which can give it no more than it
    has itself. Raises dataplane.privileges.PrivilegeError.
    """
    starts = config.dataplane.supervised_by == "agent"
    privileges.keep_only({*AGENT, *(privileges.DATAPLANE if starts else ())})
