"""What the benches gave, for programs: JSON with all that is needed to judge it later."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cni_virtio import __version__
from tests.bench.cores import FORWARDER_CORE, LOAD_CORE
from tests.bench.measure import Effort, Outcome, Spread
from tests.bench.verdicts import disagreements, verdicts

_LOAD_PACKAGES = ("dpdk-dev", "iperf3")


def machine() -> dict[str, Any]:
    """Describe what the figures are measured on, and when."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def as_json(outcomes: Sequence[Outcome], effort: Effort) -> str:
    """Serialise everything measured, with each target and whether it is met."""
    peers = {package for outcome in outcomes for package in outcome.bench.packages}
    record = {
        "machine": machine(),
        "versions": {"cni-virtio": __version__} | _versions({*peers, *_LOAD_PACKAGES}),
        "forwarder_core": FORWARDER_CORE,
        "load_core": LOAD_CORE,
        "effort": asdict(effort),
        "benches": [_bench(outcome) for outcome in outcomes],
    }
    return json.dumps(record, indent=1)


def _bench(outcome: Outcome) -> dict[str, Any]:
    bench = outcome.bench
    return {
        "name": bench.name,
        "title": bench.title,
        "took_s": round(outcome.took_s, 1),
        "units": dict(bench.units),
        "ours": outcome.ours,
        "runs": {name: [dict(run) for run in runs] for name, runs in outcome.runs.items()},
        "ratios": _ratios(outcome),
        "targets": [
            {
                **asdict(verdict.target),
                "figure": asdict(verdict.figure) if verdict.figure else None,
                "met": verdict.met,
            }
            for verdict in verdicts(outcome)
        ],
        "disagreements": list(disagreements(outcome)),
        "failures": outcome.failures,
    }


def _ratios(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Give ours / peer by peer and metric."""
    found: dict[str, dict[str, Any]] = {}
    for peer in outcome.peers:
        by_metric = {metric: outcome.ratios(metric, peer) for metric in outcome.bench.units}
        found[peer] = {
            metric: asdict(Spread.of(ratios)) for metric, ratios in by_metric.items() if ratios
        }
    return found


def _versions(packages: set[str]) -> dict[str, str]:
    words = ["dpkg-query", "-W", "-f=${Package} ${Version}\n", *sorted(packages)]
    printed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    pairs = (line.partition(" ") for line in printed.splitlines())
    return {name: version for name, _, version in pairs if version}
