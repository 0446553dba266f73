"""Whether the dataplane at a socket answers and its workers move: exit status and one line."""

from __future__ import annotations

import argparse
import sys
import time

from dataplane.client import DataplaneClient, DataplaneError, DataplaneUnavailable
from dataplane.options import DEFAULT_SOCKET

EXIT_DOWN = 1
_PATIENCE_S = 2.0
_LOOK_AGAIN_S = 0.01


def main(arguments: list[str] | None = None) -> int:
    """Look once; give the exit status for a probe."""
    parser = argparse.ArgumentParser(
        prog="python -m dataplane.probe",
        description="Tells whether a dataplane answers and its workers move.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--socket", metavar="PATH", default=DEFAULT_SOCKET, help="control socket (%(default)s)")
    reason = problem(parser.parse_args(arguments).socket)
    if reason:
        print(reason, file=sys.stderr)
    return EXIT_DOWN if reason else 0


def problem(path: str, patience_s: float = _PATIENCE_S) -> str:
    """Say what is wrong with the dataplane that serves `path`; "" if nothing is."""
    client = DataplaneClient(path, patience_s)
    try:
        first = _rounds(client)
        deadline_s = time.monotonic() + patience_s
        while stuck := [
            core for core, count in _rounds(client).items() if count == first.get(core)
        ]:
            if time.monotonic() > deadline_s:
                return f"workers on cores {','.join(map(str, stuck))} do not move"
            time.sleep(_LOOK_AGAIN_S)
    except (DataplaneError, DataplaneUnavailable) as error:
        return str(error)
    finally:
        client.close()
    return ""


def _rounds(client: DataplaneClient) -> dict[int, int]:
    """Give the rounds that each worker has made, by core; to be asked wakes those that sleep."""
    return {worker["core"]: worker["rounds"] for worker in client.workers()["workers"]}


if __name__ == "__main__":
    sys.exit(main())
