"""The log on stderr, of dataplane and agent."""

from __future__ import annotations

import io
import logging
import os
import sys


def to_stderr(level: str, who: str) -> None:
    """Log to stderr from now on; `who` is a logging format for the origin of a line."""
    if sys.stderr:
        # Unbuffered, as by `python -u`: of a log that nobody reads any more (the agent is being
        # replaced) a buffer would keep what cannot be flushed at exit, and the status be 120.
        sys.stderr = io.TextIOWrapper(
            io.FileIO(sys.stderr.fileno(), "w", closefd=False),
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            write_through=True,
        )
    # journald puts its own time on every line.
    time_field = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s.%(msecs)03d "
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"{time_field}%(levelname)s {who}: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    # Nor is such a log a reason to complain.
    logging.raiseExceptions = False
