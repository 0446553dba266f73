"""`./dev demo`: kernel and user-space containers on one network, measured, and removed again."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from cni_virtio.config import ConfigError
from cni_virtio.ctl import checks
from cni_virtio.ctl.agent_client import AgentError
from cni_virtio.ctl.checks import Verdict
from cni_virtio.ctl.demo_report import Report
from cni_virtio.ctl.lab import Lab, LabError
from cni_virtio.ctl.lab import file as lab_file
from cni_virtio.ctl.lab.apps import app_cores
from cni_virtio.ctl.lab.paths import BASE
from cni_virtio.ctl.lab.signals import interruptible, uninterrupted
from cni_virtio.ctl.lab.spec import LabContainer
from cni_virtio.ctl.snapshot import Snapshot, adopt_descendants, hugepage_counts

_FILE = Path(__file__).with_name("demo.yaml")
_OUTSIDE = "wire0"
_EXIT_INTERRUPTED = 130
_RING = 16384
# Applications that share a core take turns of milliseconds: only rings that hold as much keep the
# dataplane busy meanwhile.
_TESTPMD = (
    "dpdk-testpmd --lcores 0@{core},1@{core} --no-pci --no-huge -m 320 --no-shconf --no-telemetry "
    f"--vdev=net_virtio_user0,path={{socket}},mac={{mac}},queue_size={_RING},packed_vq=1,in_order=1"
    f" -- --no-mlockall --rxd={_RING} --txd={_RING} --total-num-mbufs={3 * _RING} --stats-period=1 "
).split()
_SEND = [
    *_TESTPMD,
    "--forward-mode=txonly",
    "--eth-peer=0,{app2.mac}",
    "--tx-ip={app1.ip},{app2.ip}",
]
_REFLECT = [*_TESTPMD, "--forward-mode=5tswap"]
_EXPECTED = (
    LabError, AgentError, ConfigError, OSError, LookupError, RuntimeError, ValueError,
    subprocess.SubprocessError,
)  # fmt: skip


def main() -> int:
    """Run the demo; 0 only if every line held."""
    report = Report()
    adopt_descendants()
    with interruptible():
        try:
            return _run(report)
        except KeyboardInterrupt:
            report.console.print("\ninterrupted; all that was made has been removed")
            return _EXIT_INTERRUPTED
        except _EXPECTED as error:
            report.console.print(f"demo: {error}", markup=False, soft_wrap=True)
            return 1


def _run(report: Report) -> int:
    spec = lab_file.load(_FILE)
    _remove_earlier(report, spec.name)
    before = Snapshot.take(spec.name)
    report.section("This machine offers")
    for what, value in _offers():
        report.fact(what, value)
    kernel = tuple(c for c in spec.containers if c.kind == "kernel")
    demo = Demo(Lab(replace(spec, containers=kernel), keep=True), report)
    try:
        if demo.start():
            demo.kernel_containers()
            demo.user_space([c for c in spec.containers if c.kind != "kernel"])
            demo.remove_all()
    finally:
        with uninterrupted():
            demo.finish()
    report.section("What is left on this machine")
    for kind, verdict in demo.at_work.compare(before, Snapshot.take(spec.name)).items():
        report.add(kind, verdict, 0.0)
    report.table()
    return 0 if report.ok else 1


class Demo:
    """The parts of the demo, in their order."""

    def __init__(self, lab: Lab, report: Report) -> None:
        self._lab = lab
        self._report = report
        self.at_work = Snapshot.take(lab.name)

    def start(self) -> bool:
        """Start agent and dataplane, and ADD the kernel containers."""
        self._report.section("Agent, dataplane, three kernel containers")
        if not self._step("start, three ADDs", self._up):
            return False
        self._step("CHECK of each", self._check_all)
        for what, value in _taken(self._lab):
            self._report.fact(what, value)
        return True

    def kernel_containers(self) -> None:
        """Show kernel containers, the gateway and the outside talking."""
        lab = self._lab
        peer, v6 = lab.address("c2"), lab.address("c2", version=6)
        gateway = lab.attachment("c1").gateways[0]
        outside = lab.spec.uplinks[0].addresses[0].partition("/")[0]
        self._report.section("Kernel containers")
        self._step("all to all, ping", lambda: checks.mesh(lab))
        self._step("container <-> container, ping", lambda: checks.ping(lab, "c1", peer))
        self._step(
            "container <-> container, iperf3", lambda: checks.throughput(lab, "c1", "c2", peer)
        )
        self._step("  the same over IPv6", lambda: checks.throughput(lab, "c1", "c2", v6))
        self._step("  segments as they cross", lambda: checks.frame_bytes(lab, "c1", "c2", peer))
        self._step("container <-> outside, ping", lambda: checks.ping(lab, "c1", outside))
        self._step(
            "container <-> outside, iperf3",
            lambda: checks.throughput(lab, "c1", _OUTSIDE, outside),
        )
        self._step("container <-> gateway, ping", lambda: checks.ping(lab, "c1", gateway))

    def user_space(self, containers: list[LabContainer]) -> None:
        """Add the vhost-user containers, and show them among the others and on their own."""
        lab = self._lab
        self._report.section("Two vhost-user containers with testpmd")
        if len(app_cores(lab.spec.dataplane)) < len(containers):
            self._report.fact("note", "both poll on one core, and take turns of milliseconds")
        for container in containers:
            name = container.name
            if self._step(f"{name}: ADD, start", partial(self._join, container)):
                check = partial(checks.ping, lab, "c1", lab.address(name), count=20)
                self._step(f"container <-> testpmd {name}, ping", check)
        self._step("testpmd <-> testpmd, 64 B", self._bounce)

    def remove_all(self) -> None:
        """DEL every interface."""
        self.at_work = Snapshot.take(self._lab.name)
        self._report.section("DEL of everything")
        self._step("DELs", self._delete_all)

    def finish(self) -> None:
        """Keep the logs if something failed, and remove the lab."""
        lab, report = self._lab, self._report
        if not report.ok and lab.paths.logs.is_dir():
            kept = tempfile.mkdtemp(prefix="cni-virtio-demo-")
            shutil.copytree(lab.paths.logs, kept, dirs_exist_ok=True)
            shutil.copy(lab.paths.agent_config, kept)
            report.console.print(f"\nlogs of agent and applications: {kept}", markup=False)
        if lab.paths.root.is_dir():
            with report.doing("removing what is left"):
                lab.down()
        for note in lab.notes:
            report.fact("note", note)

    def _step(self, what: str, check: Callable[[], Verdict]) -> bool:
        started = time.monotonic()
        with self._report.doing(what):
            try:
                verdict = check()
            except _EXPECTED as error:
                verdict = Verdict("failed", False, str(error))
        self._report.add(what, verdict, time.monotonic() - started)
        return verdict.ok

    def _up(self) -> Verdict:
        self._lab.up()
        return Verdict(f"ADD {_median_ms(self._lab.took_s['ADD'])} ms")

    def _check_all(self) -> Verdict:
        took = [self._lab.check(attachment).took_s for attachment in self._lab.attachments()]
        return Verdict(f"{_median_ms(took)} ms each")

    def _join(self, container: LabContainer) -> Verdict:
        self._lab.add_container(container)
        if not checks.wait_for_answer(self._lab, "c1", self._lab.address(container.name)):
            log = self._lab.paths.log(container.name)
            return Verdict("silent", False, f"it does not answer a ping; its log: {_last(log)}")
        return Verdict(f"ADD {self._lab.took_s['ADD'][-1] * 1e3:.1f} ms")

    def _bounce(self) -> Verdict:
        """One application sends to the other, which sends everything back."""
        for name, command in (("app2", _REFLECT), ("app1", _SEND)):
            self._lab.stop_app(name)
            self._lab.start_app(name, command)
        time.sleep(3.0)  # testpmd's own start
        return checks.packet_rate(self._lab, "app2")

    def _delete_all(self) -> Verdict:
        for container in reversed(self._lab.spec.containers):
            self._lab.remove_container(container.name)
        ports = [p for p in self._lab.query("ports")["ports"] if p.get("attachment")]
        took = self._lab.took_s["DEL"]
        reason = f"ports left: {[p['spec']['name'] for p in ports]}" if ports else ""
        return Verdict(f"{len(took)} DELs, {_median_ms(took)} ms each", not ports, reason)


def _remove_earlier(report: Report, name: str) -> None:
    """Remove what a demo that was killed has left. Raises LabError if another one runs."""
    with contextlib.suppress(FileNotFoundError):
        if (BASE / name).is_dir():
            report.console.print("an earlier demo was killed: removing what it left")
            Lab.existing(BASE / name).down()


def _offers() -> Iterator[tuple[str, str]]:
    cores = sorted(os.sched_getaffinity(0))
    yield "cores", f"{len(cores)} ({', '.join(map(str, cores))})"
    yield "hugepages reserved", _hugepages()
    vhost = os.access("/dev/vhost-net", os.R_OK | os.W_OK)
    yield "vhost-net", "yes" if vhost else "no /dev/vhost-net"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield "memory", f"{memory / (1 << 30):.1f} GiB"


def _taken(lab: Lab) -> Iterator[tuple[str, str]]:
    status = lab.status()
    dataplane = status["dataplane"]
    yield "kernel interfaces through", str(status["backend"])
    yield "DPDK", str(dataplane.get("dpdk"))
    if cores := dataplane.get("cores"):
        yield "cores of the dataplane", ", ".join(map(str, cores))
    huge = (dataplane.get("memory") or {}).get("huge")
    yield "memory of the dataplane", "hugepages" if huge else "ordinary pages"
    yield "hugepages reserved now", _hugepages()
    for message in status.get("messages", []):
        yield "note", str(message)


def _hugepages() -> str:
    pages = [
        f"{count} of {size.removeprefix('hugepages-')}"
        for size, count in hugepage_counts().items()
        if count
    ]
    return ", ".join(pages) or "none"


def _median_ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.1f}" if seconds else "?"


def _last(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "none"
    return lines[-1] if lines else "empty"


if __name__ == "__main__":
    sys.exit(main())
