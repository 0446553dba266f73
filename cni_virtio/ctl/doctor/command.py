"""`cni-virtioctl doctor`: runs every check and says what it found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from cni_virtio.ctl.doctor import agent, cni, cores, files, kernel, memory, shim
from cni_virtio.ctl.doctor.finding import Check, Finding, NotCheckedError
from cni_virtio.ctl.doctor.patient import Patient

_FAMILIES: Final = (agent, cores, memory, kernel, files, shim, cni)
_PATH: Final = click.Path(path_type=Path)


@dataclass(frozen=True)
class Outcome:
    """What came of one check; `skipped` says why nothing did."""

    check: Check
    findings: tuple[Finding, ...] = ()
    skipped: str = ""


@click.command()
@click.option(
    "--config",
    type=_PATH,
    help="The agent's YAML; without it the one that the agent runs with, or its default.",
)
@click.option(
    "--cni-conf-dir",
    type=_PATH,
    default="/etc/cni/net.d",
    show_default=True,
    help="Where runtimes take networks from.",
)
@click.option(
    "--cni-bin-dir",
    "cni_bin_dirs",
    type=_PATH,
    multiple=True,
    default=["/opt/cni/bin"],
    show_default=True,
    help="Where runtimes take plugins from; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def doctor(
    ctx: click.Context,
    config: Path | None,
    cni_conf_dir: Path,
    cni_bin_dirs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say what is wrong with this node, and what mends it. Changes nothing.

    The exit status is 0 if all is well, 1 if not.
    """
    told = ctx.find_root().get_parameter_source("socket") != ParameterSource.DEFAULT
    patient = Patient(config, ctx.obj if told else None, cni_conf_dir, cni_bin_dirs)
    outcomes = [examine(check, patient) for family in _FAMILIES for check in family.CHECKS]
    healthy = not any(outcome.findings for outcome in outcomes)
    if as_json:
        checks = [_as_json(outcome) for outcome in outcomes]
        click.echo(json.dumps({"healthy": healthy, "checks": checks}, indent=2))
    else:
        for line in _lines(outcomes):
            click.echo(line)
    ctx.exit(0 if healthy else 1)


def examine(check: Check, patient: Patient) -> Outcome:
    """Run one check. One that fails itself must not silence the others."""
    try:
        return Outcome(check, tuple(check.look(patient)))
    except NotCheckedError as error:
        return Outcome(check, skipped=str(error))
    except PermissionError as error:
        what = f"cannot look: {error.filename}: {error.strerror}"
        remedy = "sudo cni-virtioctl doctor" if os.geteuid() else "run it outside of a sandbox"
        return Outcome(check, (Finding(what, "what is wrong there stays unseen", remedy),))
    except OSError as error:
        why = "the check itself failed, which is a finding of its own"
        return Outcome(check, (Finding(str(error), why, "see dmesg, and the mount of that path"),))


def _as_json(outcome: Outcome) -> dict[str, Any]:
    state = "skipped" if outcome.skipped else "fault" if outcome.findings else "ok"
    return {
        "name": outcome.check.name,
        "state": state,
        "promise": outcome.check.promise,
        "skipped": outcome.skipped,
        "findings": [asdict(finding) for finding in outcome.findings],
    }


def _lines(outcomes: list[Outcome]) -> Iterator[str]:
    width = max(len(outcome.check.name) for outcome in outcomes)
    count = 0
    for outcome in outcomes:
        name = outcome.check.name.ljust(width)
        if outcome.skipped:
            yield f"-      {name}  not checked: {outcome.skipped}"
        elif not outcome.findings:
            yield f"ok     {name}  {outcome.check.promise}"
        for finding in outcome.findings:
            count += 1
            yield f"FAULT  {name}  {finding.what}"
            yield f"       {'':{width}}  why:    {finding.why}"
            yield f"       {'':{width}}  remedy: {finding.remedy}"
    yield f"{count} fault{'s' if count > 1 else ''} found" if count else "all is well"
