"""`cni-virtioctl doctor` on a node with CNI folders in good order, for tests to break."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.smoke.agent import PLUGINS, SHIM, Node, node
from tests.unit.dataplane_process import NOBODY, ROOT

RUN = [sys.executable, "-P", "-c", "from cni_virtio.ctl import main; main()"]


@dataclass(frozen=True)
class Report:
    """What the doctor said: findings by check, in its order."""

    status: int
    findings: dict[str, list[dict[str, str]]]
    states: dict[str, str]

    def only(self, check: str) -> dict[str, str]:
        """The one finding that there is, of that check."""
        assert [name for name, found in self.findings.items() for _ in found] == [check], self
        return self.of(check)[0]

    def of(self, check: str) -> list[dict[str, str]]:
        """The findings of one check."""
        assert self.status == 1
        for finding in self.findings[check]:
            assert all(finding[part] for part in ("what", "why", "remedy"))
        return self.findings[check]


@dataclass(frozen=True)
class Practice:
    """A node with its agent, and the folders that a runtime would use."""

    here: Node

    @property
    def bin_dir(self) -> Path:
        return self.here.directory / "bin"

    @property
    def conf_dir(self) -> Path:
        return self.here.directory / "net.d"

    @property
    def shim(self) -> Path:
        return self.bin_dir / "cni-virtio"

    @property
    def network(self) -> Path:
        return self.conf_dir / "10-pods.conflist"

    def furnish(self) -> None:
        """Have both folders as they should be, whatever was there."""
        for folder in (self.bin_dir, self.conf_dir):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        shutil.copy(SHIM, self.shim)
        for name in ("host-local", "portmap", "dhcp"):
            shutil.copy(Path(PLUGINS, name), self.bin_dir)
        self.write_network(self.network, self.conf(), {"type": "portmap"})

    def conf(self, **keys: Any) -> dict[str, Any]:
        """Make our netconf, as it is in a list; a key that is None is left out."""
        conf = self.here.conf(**keys)
        return {key: conf[key] for key in conf if key not in ("name", "cniVersion")}

    def write_network(self, path: Path, *plugins: dict[str, Any], name: str = "pods") -> None:
        data = {"cniVersion": "1.1.0", "name": name, "plugins": plugins}
        path.write_text(json.dumps(data, indent=1))

    def variant(self, old: str, new: str) -> Path:
        """Write the agent's YAML once more, with a difference."""
        text = (self.here.directory / "agent.yaml").read_text()
        assert old in text
        path = self.here.directory / "variant.yaml"
        path.write_text(text.replace(old, new))
        return path

    def words(self, *options: str, config: Path | None = None) -> list[str]:
        file = config or self.here.directory / "agent.yaml"
        folders = ["--cni-conf-dir", str(self.conf_dir), "--cni-bin-dir", str(self.bin_dir)]
        return [*RUN, "doctor", "--config", str(file), *folders, *options]

    def see(
        self, *, config: Path | None = None, broken: str = "true", uid: int = 0, root: Path = ROOT
    ) -> Report:
        """Call the doctor; `broken` is a shell command, run before in a mount namespace of both.

        `root` is where the doctor's own code is.
        """
        script = f"{broken} && exec {shlex.join(self.words('--json', config=config))}"
        words = ["unshare", "--mount", "sh", "-c", script] if not uid else ["sh", "-c", script]
        done = subprocess.run(
            words,
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            user=uid,
        )
        assert not done.stderr, done.stderr
        said = json.loads(done.stdout)
        findings = {each["name"]: each["findings"] for each in said["checks"] if each["findings"]}
        assert said["healthy"] == (done.returncode == 0) == (not findings)
        return Report(
            done.returncode, findings, {each["name"]: each["state"] for each in said["checks"]}
        )

    def see_as_nobody(self) -> Report:
        return self.see(uid=NOBODY)

    def assert_well(self) -> None:
        report = self.see()
        assert set(report.states.values()) == {"ok"}, report


@contextmanager
def practice() -> Iterator[Practice]:
    """A node in good health."""
    with node() as here:
        one = Practice(here)
        one.furnish()
        yield one
