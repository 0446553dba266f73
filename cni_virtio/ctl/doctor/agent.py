"""The agent and its dataplane: whether they run, as configured, and what they struggle with."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cni_virtio import sandbox
from cni_virtio.ctl.doctor.finding import Check, Finding, NotCheckedError
from cni_virtio.ctl.doctor.patient import Patient

_LIMIT: Final = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)
_LEAST_FREE_FDS: Final = 64
_NO_ADD: Final = "no container can be attached or detached: runtimes get error 11 and try again"
_CLOCK_SLACK_S: Final = 2.0


def config(patient: Patient) -> Iterator[Finding]:
    """Look whether the YAML can be used, and is what the agent has read."""
    if patient.config_error:
        why = "an agent that is started now ends at once"
        yield Finding(
            patient.config_error, why, f"mend {patient.file} there, then restart cni-virtio-agent"
        )
        return
    changed_s = _changed_s(patient)
    if changed_s > 0:
        yield Finding(
            f"{patient.file} has changed {changed_s:.0f} s after the agent had read it",
            "what is written there is not what the agent does",
            "restart cni-virtio-agent (containers keep their interfaces)",
        )


def _changed_s(patient: Patient) -> float:
    """Say by how many seconds the file is newer than the agent; 0 if it is not."""
    try:
        told, uptime_s = Path(patient.status["config_file"]), float(patient.status["uptime_s"])
    except (NotCheckedError, KeyError):
        return 0
    if patient.file == Path(os.devnull) or told != patient.file.absolute():
        return 0
    newer_s = patient.file.stat().st_mtime - (time.time() - uptime_s)
    return newer_s if newer_s > _CLOCK_SLACK_S else 0


def running(patient: Patient) -> Iterator[Finding]:
    """Look whether the agent answers."""
    if patient.agent_error:
        option = "" if patient.file == Path(os.devnull) else f" --config {patient.file}"
        start = f"cni-virtio-agent{option}"
        what = patient.agent_error.partition(": ")[0]
        if "does not answer" in patient.agent_error:
            remedy = "see its log; if it hangs, restart cni-virtio-agent"
        elif "no access" in patient.agent_error:
            remedy = "sudo cni-virtioctl doctor"
        else:
            remedy = f"start it (systemctl start cni-virtio-agent, or {start}); its log says more"
        yield Finding(what, _NO_ADD, remedy)


def dataplane(patient: Patient) -> Iterator[Finding]:
    """Look whether the dataplane runs, and if not at its last words."""
    found: dict[str, Any] = patient.status.get("dataplane") or {}
    if not found.get("running"):
        yield Finding(
            f"the dataplane is down: {found.get('last_error') or 'it is being started'}",
            "no packet moves; interfaces and addresses of containers stay",
            _mended(patient),
        )
        return
    for message in patient.status.get("messages", []):
        if "running dataplane differs" in message:
            why = "it was started with another configuration, and has been kept"
            yield Finding(message.partition("; stop it")[0], why, patient.restart_dataplane)
    if found.get("frontends_guarded") is False:
        yield Finding(
            "the dataplane was built with DPDK=system, whose librte_vhost lacks our guards",
            "an application of a vhost-user socket can end or stop the dataplane, or worse",
            "./dev setup without DPDK=system; until then trust whoever gets a socket",
        )


def _mended(patient: Patient) -> str:
    if patient.agent_supervises:
        return "mend what it names: the agent starts it again, every 5 s at the latest"
    return (
        "see the log of cni-virtio-dataplane (its unit or container) and mend what it names; its"
        " supervisor starts it, not the agent (dataplane.supervised_by: other)"
    )


def failures(patient: Patient) -> Iterator[Finding]:
    """Look at what the agent tries again and again."""
    for what, failure in (patient.status.get("failures") or {}).items():
        yield Finding(
            f"{what}: {_text(failure)}",
            "the agent tries again and again; until it succeeds, this port or network is missing",
            "mend what it names; the agent needs no restart",
        )


def _text(failure: Any) -> str:
    if isinstance(failure, dict):
        return ", ".join(f"{key} {value}" for key, value in failure.items())
    return str(failure)


def descriptors(patient: Patient) -> Iterator[Finding]:
    """Look whether agent and dataplane have open files to spare."""
    pids = {"agent": patient.agent_pid, "dataplane": patient.dataplane_pid}
    for who, pid in pids.items():
        limit, used = _open_files(pid)
        if limit and limit - used < _LEAST_FREE_FDS:
            yield Finding(
                f"the {who} (pid {pid}) has {used} files open, its limit is {limit}",
                "every queue of a kernel interface takes at least one: ADD is about to fail",
                f"prlimit --pid {pid} --nofile=65536 now; LimitNOFILE=65536 in its unit for good",
            )


def _open_files(pid: Any) -> tuple[int, int]:
    """Return limit and number of a process' open files; zeros if it is not to be seen."""
    try:
        found = _LIMIT.search(Path(f"/proc/{pid}/limits").read_text())
        used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 (thousands of them)
    except FileNotFoundError:
        return 0, 0
    return (int(found[1]) if found else 0), used


def attachments(patient: Patient) -> Iterator[Finding]:
    """Look whether anything still uses the namespace of each attachment, as the agent does."""
    known = patient.attachments
    if not sandbox.can_tell():
        raise NotCheckedError("it takes CAP_SYS_PTRACE to see who uses a namespace")
    gone = sandbox.gone(known, patient.own_pids)
    if gone:
        first = gone[0]
        yield Finding(
            f"{len(gone)} of {len(known)} attachments have lost their namespace, such as"
            f" {first.ifname} of {first.container_id} on {first.name}: {first.netns} is gone",
            "they hold ports, addresses and sockets of containers that are no more",
            "run doctor again after 30 s: a running agent frees them; if not, see its log",
        )


CHECKS: Final = (
    Check("config", "the agent's YAML is valid, and the one that it runs with", config),
    Check("agent", "the agent answers", running),
    Check("dataplane", "the dataplane runs, as configured", dataplane),
    Check("failures", "there is nothing that the agent tries again and again", failures),
    Check("open files", "agent and dataplane have open files to spare", descriptors),
    Check("attachments", "every attachment's namespace is there", attachments),
)
