"""Files that are written whole or not at all, whenever the agent is killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_PREFIX: Final = ".writing-"


def write(path: Path, content: bytes) -> None:
    """Put a file, mode 0600, in the place of what is there. Raises OSError, and changes nothing."""
    temporary = path.with_name(f"{_PREFIX}{path.name}")
    # No fsync: what has to be outlived is the agent, not the machine.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def is_unfinished(path: Path) -> bool:
    """Tell whether a file is what `write` leaves when it is killed."""
    return path.name.startswith(_PREFIX)
