"""Where the control socket is; it may change, as a dataplane starts beside the one before it."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from dataplane.fields import Code, WireError


class Place:
    """The path of a listening socket of ours."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity = _identity(path)

    def move(self, path: str) -> None:
        """Be found at another path from now on, in place of the socket that is there.

        :raises WireError: `exists`, if something else than a socket is there; `io`.
        """
        try:
            with suppress(FileNotFoundError):
                if not stat.S_ISSOCK(Path(path).lstat().st_mode):
                    raise WireError(Code.EXISTS, f"{path} exists and is not a socket: remove it")
            Path(self.path).rename(path)
        except OSError as e:
            reason = f"the control socket cannot be moved to {path}: {e.strerror}"
            raise WireError(Code.IO, reason) from e
        self.path = path

    def is_ours(self) -> bool:
        """Tell whether the socket is still at its path, so that clients find it."""
        try:
            return _identity(self.path) == self._identity
        except OSError:
            return False

    def unlink(self) -> None:
        """Remove the socket, unless another is there by now."""
        with suppress(OSError):
            if self.is_ours():
                Path(self.path).unlink()


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_dev, status.st_ino
