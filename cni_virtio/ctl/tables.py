"""Tables: framed for a terminal, plain aligned columns for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = ("", "k", "M", "G", "T", "P", "E")


@dataclass(frozen=True)
class Column:
    """A heading; numbers stand `right`, and what must not be broken does not `wrap`."""

    title: str
    right: bool = False
    wrap: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows to stdout; a cell may have several lines."""
    if sys.stdout.isatty():
        _print_rich(columns, rows)
    else:
        _print_plain(columns, rows)


def short(number: float) -> str:
    """Write a count with at most four digits and a decimal unit on a terminal, else exactly."""
    if not sys.stdout.isatty():
        return f"{number:.0f}"
    for unit in _UNITS:
        if abs(number) < 1000:
            return f"{number:.0f}" if not unit else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.0f}Z"


def frame(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    """Lay rows out for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        overflow = "fold" if column.wrap else "ellipsis"
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow=overflow,  # type: ignore[arg-type]
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console

    Console(highlight=False).print(frame(columns, rows))


def _print_plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    titles = [column.title for column in columns]
    lines = [titles, *([cell.replace("\n", ",") or "-" for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        cells = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        print("  ".join(cells).rstrip())
