"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_virtio.ctl.doctor.patient import Patient


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `remedy` is a command to type or a key to set, where it can be."""

    what: str
    why: str
    remedy: str


class NotCheckedError(Exception):
    """A check has nothing to go by; the text says what is missing."""


@dataclass(frozen=True)
class Check:
    """`promise` is what holds where `look` finds nothing. `look` may raise NotCheckedError."""

    name: str
    promise: str
    look: Callable[[Patient], Iterable[Finding]]
