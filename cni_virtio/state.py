"""The record of attachments: one JSON file each, so that they survive the agent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from cni_virtio import folders, whole_file
from cni_virtio.attachment import Attachment, Key

__all__ = ["Attachment", "Key", "Quarantined", "StateDir", "StateError", "file_name"]

_MAX_RECORD_BYTES = 4 << 20
_MAX_NAME_BYTES = 200
_HASH_CHARS = 16


class Quarantined(NamedTuple):
    """A record that could not be read: where it lies now, and why."""

    path: Path
    reason: str


class StateError(OSError):
    """A record that could not be written or removed; the message names file and reason."""

    def __str__(self) -> str:
        return str(self.strerror)


class StateDir:
    """The attachments under one folder (0700), indexed in memory; threads may share it."""

    def __init__(self, path: str | Path) -> None:
        self._records = Path(path) / "attachments"
        self._quarantine = Path(path) / "quarantine"
        self._index: dict[Key, Attachment] = {}
        self._lock = threading.Lock()
        try:
            folders.make(Path(path).parent, 0o755)
            for folder in (Path(path), self._records, self._quarantine):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise _failed("make the state folder", Path(path), error) from error

    def load_all(self) -> tuple[list[Attachment], list[Quarantined]]:
        """Read every record anew; unreadable ones are moved to `quarantine/`. Raises StateError."""
        quarantined: list[Quarantined] = []
        with self._lock:
            self._index.clear()
            for path in sorted(self._records.iterdir()):
                if whole_file.is_unfinished(path):
                    path.unlink(missing_ok=True)
                    continue
                try:
                    attachment = self._read(path)
                except (ValueError, RecursionError) as error:
                    quarantined.append(self._put_away(path, str(error)))
                    continue
                self._index[attachment.key] = attachment
        return self.all(), quarantined

    def save(self, attachment: Attachment) -> None:
        """Write a record, whole or not at all, in place of its key's last. Raises StateError."""
        path = self._records / file_name(attachment)
        content = json.dumps(attachment.to_json()).encode()
        with self._lock:
            last = self._index.get(attachment.key)
            try:
                whole_file.write(path, content)
                if last and file_name(last) != path.name:
                    (self._records / file_name(last)).unlink(missing_ok=True)
            except OSError as error:
                raise _failed("write the record of an attachment to", path, error) from error
            self._index[attachment.key] = attachment

    def delete(self, key: Key | tuple[str, str]) -> Attachment | None:
        """Remove a record and return it, or None if there was none. Raises StateError."""
        with self._lock:
            attachment = self._index.get(Key(*key))
            if attachment is None:
                return None
            path = self._records / file_name(attachment)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _failed("remove the record of an attachment", path, error) from error
            del self._index[attachment.key]
            return attachment

    def get(self, key: Key | tuple[str, str]) -> Attachment | None:
        """The attachment of a (container id, ifname), or None."""
        with self._lock:
            return self._index.get(Key(*key))

    def all(self) -> list[Attachment]:
        """Every attachment, oldest first."""
        with self._lock:
            return sorted(self._index.values(), key=lambda item: (item.created_s, item.key))

    def of_network(self, network: str) -> list[Attachment]:
        """The attachments of a dataplane network, oldest first."""
        return [item for item in self.all() if item.network == network]

    def _read(self, path: Path) -> Attachment:
        try:
            content = _content(path)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None
        if len(content) > _MAX_RECORD_BYTES:
            raise ValueError(f"is larger than {_MAX_RECORD_BYTES} bytes")
        try:
            data = json.loads(content.decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"is empty, cut off or not JSON: {error}") from None
        attachment = Attachment.from_json(data)
        if path.name != file_name(attachment):
            raise ValueError(f"is the record of {file_name(attachment)}, under another name")
        return attachment

    def _put_away(self, path: Path, reason: str) -> Quarantined:
        target = self._quarantine / path.name
        number = 0
        while target.exists():
            number += 1
            target = self._quarantine / f"{path.name}.{number}"
        try:
            path.rename(target)
            if stat.S_ISREG(target.lstat().st_mode):
                target.chmod(0o600)
        except OSError as error:
            raise _failed("put away the unreadable record", path, error) from error
        return Quarantined(target, f"{path.name}: {reason}")


def file_name(attachment: Attachment) -> str:
    """`network@container id@ifname`, quoted; a long one ends in a hash instead."""
    parts = (attachment.name, attachment.container_id, attachment.ifname)
    name = "@".join(quote(part, safe="", errors="surrogateescape") for part in parts)
    if len(name) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARS]
        name = f"{name[: _MAX_NAME_BYTES - _HASH_CHARS - 1]}~{digest}"
    return f"{name}.json"


def _content(path: Path) -> bytes:
    """Read a regular file; what somebody else has put there might block or lead astray."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is no regular file")
        with open(fd, "rb", closefd=False) as file:
            return file.read(_MAX_RECORD_BYTES + 1)
    finally:
        os.close(fd)


def _failed(what: str, path: Path, error: OSError) -> StateError:
    hint = "; free space there" if error.errno == errno.ENOSPC else ""
    return StateError(error.errno, f"cannot {what} {path}: {error.strerror}{hint}")
