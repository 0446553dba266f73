"""How a demo shows itself: live on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from cni_virtio.ctl.checks import Verdict


@dataclass(frozen=True)
class Line:
    """One line of the final table."""

    what: str
    verdict: Verdict
    took_s: float


class Report:
    """Collects lines while it shows them."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.lines: list[Line] = []
        self._started = time.monotonic()

    @property
    def ok(self) -> bool:
        """Whether every line so far holds."""
        return all(line.verdict.ok for line in self.lines)

    def section(self, title: str) -> None:
        """Begin a part."""
        self.console.print(f"\n[bold]{title}[/bold]")

    def fact(self, what: str, value: str) -> None:
        """Show something that is neither right nor wrong."""
        self.console.print(f"  {what:<37} {value}", markup=False, soft_wrap=True)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show that something is under way, where that can be shown."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(f"{what} ..."):
            yield

    def add(self, what: str, verdict: Verdict, took_s: float) -> None:
        """Show one line, and keep it for the table."""
        self.lines.append(Line(what, verdict, took_s))
        mark = "[green]ok[/green]  " if verdict.ok else "[red]FAIL[/red]"
        self.console.print(f"  {mark} {what:<32} {verdict.figure:<28} {took_s:4.1f} s")
        if verdict.reason:
            self.console.print(f"       {verdict.reason}", markup=False, soft_wrap=True)

    def table(self) -> None:
        """Show all lines at once."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
        for title in ("What", "Figure", "Held"):
            table.add_column(title)
        for line in self.lines:
            held = "[green]yes[/green]" if line.verdict.ok else "[red]NO[/red]"
            table.add_row(line.what, line.verdict.figure, held)
        self.console.print()
        self.console.print(table)
        failed = sum(not line.verdict.ok for line in self.lines)
        took = time.monotonic() - self._started
        summary = f"{failed} of {len(self.lines)} lines failed" if failed else "every line held"
        self.console.print(f"\n{summary}, {took:.0f} s")
