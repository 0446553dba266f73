"""The inputs that are kept: minimised ones in an archive, and every one that ever found a fault."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
ARCHIVE = HERE / "corpus.tar.xz"
REGRESSIONS = HERE / "regressions"


def unpack(folder: Path) -> int:
    """Write the archive's inputs into a folder. Returns how many."""
    with tarfile.open(ARCHIVE) as archive:
        members = archive.getmembers()
        for member in members:
            data = archive.extractfile(member)
            assert data is not None, member.name
            (folder / member.name).write_bytes(data.read())
        return len(members)


def pack(folder: Path) -> int:
    """Make the archive of a folder's inputs; the same inputs make the same archive."""
    inputs = sorted(path.read_bytes() for path in folder.iterdir())
    with tarfile.open(ARCHIVE, "w:xz") as archive:
        for data in sorted(inputs, key=lambda data: (len(data), data)):
            member = tarfile.TarInfo(sha256(data).hexdigest()[:16])
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return len(inputs)


def write_seeds(folder: Path) -> int:
    """Write the inputs that are made by rule into a folder. Returns how many."""
    from tests.fuzz.seeds import seeds

    made = seeds()
    for number, data in enumerate(made):
        (folder / f"seed-{number:04}").write_bytes(data)
    return len(made)
