"""What a lab has made, noted before it is made, so that any `down` can remove it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cni_virtio import netns
from cni_virtio.ctl.lab.wiring import netns_path


class Journal:
    """An append-only file of namespaces by name."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def create_netns(self, name: str) -> None:
        """Make a namespace. Raises FileExistsError, before it is noted, if there is one."""
        path = netns_path(name)
        if path.exists():
            reason = "a network namespace of that name exists and is not this lab's"
            raise FileExistsError(17, reason, str(path))
        with self._file.open("a") as file:
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
        netns.create_named(name)

    def delete_netns(self, name: str) -> None:
        """Remove a namespace and the note of it."""
        netns.delete_named(name)
        self._rewrite(lambda other: other != name)

    def names(self) -> list[str]:
        """Return all namespaces noted, also those whose making failed."""
        try:
            return list(dict.fromkeys(self._file.read_text().split()))
        except FileNotFoundError:
            return []

    def paths(self) -> list[Path]:
        """Return where these namespaces are."""
        return [netns_path(name) for name in self.names()]

    def _rewrite(self, keep: Callable[[str], bool]) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text("".join(f"{name}\n" for name in self.names() if keep(name)))
        fresh.replace(self._file)
