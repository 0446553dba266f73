"""The agent's start and signals."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from cni_virtio import allocator, descriptors
from cni_virtio.config import AgentConfig, ConfigError, load
from dataplane import logs
from dataplane.notify import Notifier

DEFAULT_CONFIG: Final = Path("/etc/cni-virtio/agent.yaml")
EXIT_BAD_CONFIG: Final = 2
EXIT_CANNOT_START: Final = 1
_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the agent until it is told to stop; return the exit status."""
    options = _options(sys.argv[1:] if arguments is None else arguments)
    try:
        config = load(options.config or _default_config())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONFIG
    logs.to_stderr(config.agent.log_level, "agent")
    os.umask(0o077)
    for message in config.messages:
        log.warning("%s", message)
    if options.run_dataplane:
        return _become_dataplane(config)
    return _run(config, keep_dataplane=options.keep_dataplane)


def _become_dataplane(config: AgentConfig) -> int:
    from cni_virtio.run_dataplane import become_dataplane

    try:
        become_dataplane(config)
    except OSError as error:
        print(f"{config.file}: the dataplane cannot be run: {error}", file=sys.stderr)
        return EXIT_CANNOT_START


def _run(config: AgentConfig, *, keep_dataplane: bool) -> int:
    from cni_virtio import privileges
    from cni_virtio.agent import Agent, AgentError, ListenError
    from cni_virtio.sign_of_life import SignOfLife
    from cni_virtio.state import StateError
    from dataplane.privileges import PrivilegeError

    allocator.share_one_arena()
    descriptors.raise_limit()
    notifier = Notifier()
    signalled = _catch_signals()
    try:
        privileges.keep_needed(config)
        agent = Agent(config)
        agent.start()
    except (AgentError, ListenError, StateError, PrivilegeError) as error:
        print(f"{config.file}: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    notifier.ready(f"serving {config.agent.socket}")
    stopping = threading.Event()
    sign = SignOfLife(config.agent.socket, notifier)
    keeper = threading.Thread(target=sign.run, args=(stopping,), name="sign-of-life")
    keeper.start()
    os.read(signalled, 1)
    log.info("stopping")
    notifier.stopping()
    stopping.set()
    keeper.join()
    agent.stop(keep_dataplane=keep_dataplane)
    return 0


def _catch_signals() -> int:
    """Return the end of a pipe that a signal makes readable.

    Not a blocked mask, which every child would inherit; not an Event, whose lock the interrupted
    code may hold.
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    for number in _SIGNALS:
        signal.signal(number, lambda _number, _frame: os.write(write_fd, b"."))
    return read_fd


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cni-virtio-agent", description="The agent of cni-virtio.", allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help=f"configuration; without it {DEFAULT_CONFIG} if that exists, else every default",
    )
    parser.add_argument(
        "--keep-dataplane",
        action="store_true",
        help="leave the dataplane running on SIGTERM, for the agent that comes next to take up",
    )
    parser.add_argument(
        "--run-dataplane",
        action="store_true",
        help="be the dataplane of this configuration in place of the agent, for another supervisor"
        " (dataplane.supervised_by: other)",
    )
    return parser.parse_args(arguments)


def _default_config() -> Path:
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else Path(os.devnull)


if __name__ == "__main__":
    sys.exit(main())
