"""Hugepages for the dataplane: asked of the kernel if too few are free, given back at the end."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Final

from cni_virtio import whole_file

log = logging.getLogger(__name__)

_PAGE_BYTES: Final = 2 << 20
_POOL: Final = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_RECORD: Final = "hugepages-added"
_UNPIN_PATIENCE_S: Final = 1.0
_UNPIN_POLL_S: Final = 0.02


class Hugepages:
    """The kernel's pool of 2 MiB pages. How many were added is on record, for a later agent too."""

    def __init__(self, state_dir: Path, pool: Path = _POOL) -> None:
        self._record = state_dir / _RECORD
        self._pool = pool

    def provide(self, wanted_bytes: int) -> str:
        """Have enough pages free; return "" or, where that cannot be, one line that says why."""
        wanted = -(-wanted_bytes // _PAGE_BYTES)
        try:
            missing = wanted - self._read("free_hugepages")
            if missing <= 0:
                return ""
            self._add(missing)
            free = self._read("free_hugepages")
        except (OSError, ValueError) as error:
            return f"no hugepages of 2 MiB ({error}); using ordinary pages, which is slower"
        if free >= wanted:
            return ""
        self.give_back()
        return (
            f"only {free} of {wanted} hugepages of 2 MiB are to be had (memory too short or too"
            " fragmented); using ordinary pages, which is slower: reserve them at boot with"
            f" hugepages={wanted}, or lower dataplane.memory"
        )

    def add_beside(self, wanted_bytes: int) -> int | None:
        """Have enough pages free beside those in use; return how many to take back after the swap.

        These were added now, or by an agent that was killed during an upgrade. Without enough pages
        none are added, and None is returned.
        """
        wanted = -(-wanted_bytes // _PAGE_BYTES)
        try:
            before, free = self._read("nr_hugepages"), self._read("free_hugepages")
            if free >= wanted:
                # Of those on record the present dataplane has as many.
                return max(0, min(wanted, self._added() - wanted))
            self._add(wanted - free)
            added = self._read("nr_hugepages") - before
            if self._read("free_hugepages") >= wanted:
                return added
            self.take_back(added)
        except (OSError, ValueError) as error:
            log.info("no more hugepages of 2 MiB: %s", error)
        return None

    def take_back(self, pages: int) -> None:
        """Return so many of the pages that were added to the kernel, as far as they are free."""
        if pages <= 0:
            return
        try:
            surplus = min(pages, self._wait_free(pages))
            self._write(self._read("nr_hugepages") - surplus)
            whole_file.write(self._record, str(max(0, self._added() - surplus)).encode())
        except (OSError, ValueError) as error:
            log.warning("could not give hugepages back: %s", error)

    def give_back(self) -> None:
        """Return to the kernel what was added, as far as it is free."""
        try:
            added = self._added()
            if added:
                surplus = min(added, self._wait_free(added))
                self._write(self._read("nr_hugepages") - surplus)
                log.debug("gave %d hugepages back", surplus)
            self._record.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            log.warning("could not give hugepages back: %s", error)

    def _wait_free(self, pages: int) -> int:
        """Wait a moment for so many free pages; return how many there are.

        The kernel unpins what a closed AF_XDP socket used after its process has ended.
        """
        deadline_s = time.monotonic() + _UNPIN_PATIENCE_S
        while (free := self._read("free_hugepages")) < pages and time.monotonic() < deadline_s:
            time.sleep(_UNPIN_POLL_S)
        return free

    def _add(self, pages: int) -> None:
        before = self._read("nr_hugepages")
        # On record first: an agent that is killed in between gives back too many at worst, and
        # never more than are free.
        whole_file.write(self._record, str(self._added() + pages).encode())
        try:
            self._write(before + pages)
        finally:
            got = self._read("nr_hugepages") - before
            if got < pages:
                whole_file.write(self._record, str(self._added() - pages + max(got, 0)).encode())
        log.info("added %d hugepages of 2 MiB for the dataplane", got)

    def _added(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            content = self._record.read_bytes()
            try:
                return int(content)
            except ValueError:
                log.warning("%s is damaged: hugepages that were added stay", self._record)
        return 0

    def _read(self, name: str) -> int:
        return int((self._pool / name).read_text("ascii"))

    def _write(self, pages: int) -> None:
        (self._pool / "nr_hugepages").write_text(str(pages), "ascii")
