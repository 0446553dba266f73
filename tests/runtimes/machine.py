"""A machine for container runtimes: network, mounts and processes of its own, gone with it."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.smoke.netns import Netns, netns

if TYPE_CHECKING:
    from collections.abc import Iterator

# Runtimes and plugins write to fixed places; here each of them is empty, and nobody else's.
_PREPARE = """
set -e
folder=$1
mount -t proc proc /proc
mkdir "$folder/cgroup"
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys # that of this network
mount --rbind "$folder/cgroup" /sys/fs/cgroup
umount -l "$folder/cgroup"
rmdir "$folder/cgroup"
for place in /run /var/lib /opt; do mount -t tmpfs tmpfs $place; done
mkdir -p /run/netns /run/cni-virtio /opt/cni "$folder/bin" "$folder/net.d"
ln -s "$folder/bin" /opt/cni/bin
mount --bind "$folder/net.d" /etc/cni/net.d
mount --bind "$folder" /run/cni-virtio
echo ready
# As the first process, bash collects those whose parents ended before them.
sleep infinity & wait
"""


@dataclass(frozen=True)
class Machine:
    """`directory` is the same inside and outside: plugins (`bin`), sockets, configuration.

    Inside it is also at the agent's default place.
    """

    space: Netns
    directory: Path
    init_pid: int

    @property
    def cgroup(self) -> str:
        """What the runtimes' containers are put under, in every hierarchy."""
        return f"/{self.space.name}"

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.init_pid), "-m", "-n", "-p", "--", *words]

    def try_run(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever comes of it."""
        return subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run(self, *words: str, timeout_s: float = 60) -> str:
        """Run a command inside, which must succeed, and give its standard output."""
        done = self.try_run(*words, timeout_s=timeout_s)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def has(self, path: str) -> bool:
        """Tell whether there is something at a path inside."""
        return self.try_run("test", "-e", path).returncode == 0

    @contextmanager
    def running(self, log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command inside in the background, and end it at the end of the block."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                self.command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            yield process
        finally:
            signal_inside(process, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                signal_inside(process, signal.SIGKILL)
                process.wait()
                raise

    def namespaces(self) -> list[str]:
        """Names of the network namespaces that runtimes have made."""
        return self.run("ls", "/run/netns").split()

    def processes(self) -> list[str]:
        """Command lines of all that runs inside, in no order."""
        listed = self.run("ps", "-e", "--no-headers", "-o", "args").splitlines()
        return sorted(line for line in listed if not line.startswith("ps -e "))


def signal_inside(process: subprocess.Popen[bytes] | subprocess.Popen[str], number: int) -> None:
    """Send a signal to what runs inside: `process` itself only waits for it."""
    if process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for child in children.read_text().split():
            os.kill(int(child), number)


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """Make a machine; at the end it goes with all its processes, mounts and cgroups."""
    with netns() as space:
        enter = ["nsenter", f"--net={space.path}"]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        prepare = ["bash", "-c", _PREPARE, "machine", str(directory)]
        holder = subprocess.Popen(
            [*enter, *unshare, "--propagation", "private", *prepare],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert holder.stdout
        said = holder.stdout.readline()
        (init_pid,) = _children(holder) if said == "ready\n" else (0,)
        try:
            assert init_pid, said
            yield Machine(space, directory, init_pid)
        finally:
            if init_pid:
                os.kill(init_pid, signal.SIGKILL)
            holder.wait(20)
            holder.stdout.close()
            _remove_cgroups(space.name)


def _children(process: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def _remove_cgroups(name: str) -> None:
    for top in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        folders = [path for path in top.rglob("*") if path.is_dir()]
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            folder.rmdir()
        top.rmdir()
