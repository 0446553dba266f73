"""`./dev bench`: every comparison, or those named."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.markup import escape

from cni_virtio.ctl.snapshot import adopt_descendants
from tests.bench import charts, leftovers, record, report
from tests.bench.catalogue import BENCHES
from tests.bench.interrupt import interruptible
from tests.bench.measure import PAIRS, SECONDS, Bench, Effort, Outcome, Subject, run
from tests.bench.memory import hugepages

_DIRECTORY: Final = Path("build/bench")
_QUICK: Final = Effort(1, 0.3)
_EXIT_INTERRUPTED: Final = 130


def _named(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> list[Bench]:
    known = {bench.name: bench for bench in BENCHES}
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name}: there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(BENCHES)


@click.command()
@click.argument("benches", metavar="[NAME]...", nargs=-1, callback=_named)
@click.option("--quick", is_flag=True, help="One short pair each: shows that they work, no more.")
@click.option("--pairs", default=PAIRS, show_default=True, help="Runs of each subject, in turn.")
@click.option("--seconds", default=SECONDS, show_default=True, help="Length of a run.")
@click.option("--publish", is_flag=True, help="Put the charts where README.md shows them.")
@click.option("--packages", is_flag=True, help="Only name the Debian packages they need.")
def main(
    benches: list[Bench],
    *,
    quick: bool,
    pairs: int,
    seconds: float,
    publish: bool,
    packages: bool,
) -> None:
    """Compare cni-virtio with its peers, side by side, and write build/bench/."""
    if packages:
        click.echo("\n".join(sorted({name for bench in benches for name in bench.packages})))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    try:
        with interruptible():
            ok = _compare(benches, _QUICK if quick else Effort(pairs, seconds), console)
    except KeyboardInterrupt:
        console.print("\ninterrupted; all that was made has been removed")
        sys.exit(_EXIT_INTERRUPTED)
    if publish:
        console.print(f"published: {charts.publish(_DIRECTORY)}", highlight=False)
    sys.exit(0 if ok else 1)


def _compare(benches: list[Bench], effort: Effort, console: Console) -> bool:
    """Run the benches, and report; True if each of them ran to its end and left nothing."""
    began_s = time.monotonic()
    adopt_descendants()
    for old in _DIRECTORY.glob("*.log"):
        old.unlink()
    with hugepages(_DIRECTORY):
        try:
            outcomes = [_run(bench, effort, console) for bench in benches]
        finally:
            leftovers.remove()
    report.show(outcomes, console)
    (_DIRECTORY / "bench.json").write_text(record.as_json(outcomes, effort), "utf-8")
    log = _DIRECTORY / "failures.log"
    log.write_text("\n".join(t for each in outcomes for t in each.failures.values()), "utf-8")
    charts.draw(outcomes, _DIRECTORY)
    took_s = time.monotonic() - began_s
    console.print(f"{_DIRECTORY}: bench.json and charts, after {took_s:.0f} s", highlight=False)
    if any(outcome.failures for outcome in outcomes):
        console.print(f"[red]some benches failed[/]: {log} has all of it", highlight=False)
        return False
    return True


def _run(bench: Bench, effort: Effort, console: Console) -> Outcome:
    console.print(f"[bold]{bench.name}[/]: {escape(bench.title)}", highlight=False)

    def tell(outcome: Outcome, subject: Subject) -> None:
        if left := leftovers.remove():
            outcome.failures.setdefault(subject.name, f"left behind: {', '.join(left)}")
        line = report.last_run(outcome, subject.name)
        console.print(f"  {subject.name}: {escape(line)}", highlight=False, soft_wrap=True)

    return run(bench, effort, tell)


if __name__ == "__main__":
    main()
