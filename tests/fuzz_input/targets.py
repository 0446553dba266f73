"""The targets, and the inputs that are kept of each: seeds, and whatever made one fail once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TARGETS: Final = ("agent_request", "control_socket")
CORPUS: Final = Path(__file__).parent / "corpus"


def inputs(target: str) -> list[Path]:
    """The files of a target's corpus."""
    return sorted((CORPUS / target).iterdir())
