"""Boots a VM on this machine's own files, and runs pytest in it.

The exit status is pytest's; 3 if the VM did not come to its end, and the kernel's last words then.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from tests.unit.dataplane_process import ROOT
from tests.vm.monitor import MONITOR
from tests.vm.outside import PORT_NAME
from tests.vm.wire import NICS, Nic, wires

if TYPE_CHECKING:
    from tests.smoke.netns import Netns

DEADLINE_S = 600
VM_BROKEN = 3
LOG = ROOT / "build" / "vm.log"
SCRIPT = ROOT / "build" / "vm.sh"
MODULES = ("vhost_net", "tun", "vfio-pci")

_ENDED = re.compile(rb"^pytest ended with (\d+)\s*$", re.MULTILINE)

# A boot sector that writes 0 to port 0xF4, which ends qemu with the status 1.
_BOOT_SECTOR = bytes.fromhex("b000e6f4f4").ljust(510, b"\0") + b"\x55\xaa"


class VmError(Exception):
    """The VM could not be started, or did not come to its end."""


def main() -> NoReturn:
    """Run pytest in the VM with this program's arguments."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(VM_BROKEN))
    try:
        with wires() as space, outside(space) as path:
            status = run_vm(space, path, sys.argv[1:])
    except VmError as error:
        if LOG.exists():
            print(*_last_lines(LOG, 60), sep="\n", file=sys.stderr)
        print(f"dev vm: {error}; the kernel's messages: {LOG}", file=sys.stderr)
        status = VM_BROKEN
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


@contextmanager
def outside(space: Netns) -> Iterator[Path]:
    """Start the process that carries out what the tests want done outside; give its socket."""
    with tempfile.TemporaryDirectory(prefix="cvs-") as folder:
        path = Path(folder, "outside.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            fd = listener.fileno()
            words = (sys.executable, "-m", "tests.vm.outside", str(fd), str(path.parent))
            server = subprocess.Popen(space.command(*words), cwd=ROOT, pass_fds=[fd])
        try:
            yield path
        finally:
            server.kill()
            server.wait()


def run_vm(space: Netns, path: Path, arguments: Sequence[str]) -> int:
    """Boot, run pytest, and give its exit status; raises VmError."""
    SCRIPT.write_text(inside(arguments))
    words = ["ip", "netns", "exec", space.name, *vng(path)]
    vm = subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(path.parent),  # which is removed however vng ends
        },
        stdin=subprocess.DEVNULL,
        # Pipes, because qemu would open a file anew, and truncate it.
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with LOG.open("wb") as log:
        relays = [
            threading.Thread(target=_relay, args=[vm.stdout, sys.stdout.buffer]),
            threading.Thread(target=_relay, args=[vm.stderr, log]),
        ]
        for relay in relays:
            relay.start()
        try:
            vm.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise VmError(f"the VM has not ended within {DEADLINE_S} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(vm.pid, signal.SIGKILL)
            vm.wait()
            for relay in relays:
                relay.join()
    ended = _ENDED.search(LOG.read_bytes())
    if not ended:
        raise VmError("the VM ended without an exit status of pytest: it did not boot, or crashed")
    return int(ended[1])


def vng(path: Path) -> list[str]:
    """Give the command line."""
    qemu = ["-machine q35,kernel-irqchip=split"]
    # Before the devices that it is to be in front of.
    qemu += ["-device intel-iommu,intremap=on,caching-mode=on"]
    # The same files once more, but kept in memory once read: vng's own mount asks again each time.
    qemu += ["-fsdev local,id=cached,path=/,security_model=none,readonly=on,multidevs=remap"]
    qemu += ["-device virtio-9p-pci,fsdev=cached,mount_tag=cached"]
    qemu += [f"-chardev socket,id=outside,path={path}", "-device virtio-serial-pci,id=outside-bus"]
    qemu += [f"-device virtserialport,bus=outside-bus.0,chardev=outside,name={PORT_NAME}"]
    qemu += [f"-qmp unix:{path.with_name(MONITOR)},server=on,wait=off"]
    qemu += [option for nic in NICS for option in _nic(nic)]
    return [
        *("vng", "--run", str(newest_kernel()), "--user", "root", "--verbose"),
        *("--memory", "2G", "--cpus", "2"),
        *(() if kvm_works() else ("--disable-kvm",)),
        *("--append", "intel_iommu=on loglevel=6"),
        f"--qemu-opts={' '.join(qemu)}",
        *("--", _to_script()),
    ]


def _to_script() -> str:
    """Give what leads to the script: a kernel panics at a command line of more than 2 KB."""
    root = shlex.quote(str(ROOT))
    options = "ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose"
    return f"""
set -e
mkdir -p /run/netns /run/cached {root}
mount -t 9p -o {options} cached /run/cached
mount --bind /run/cached/usr /usr
mount --bind /run/cached{root} {root}
cd {root}
exec bash {SCRIPT.relative_to(ROOT)}
"""


def inside(arguments: Sequence[str]) -> str:
    """Give the script that the VM runs."""
    color = "yes" if sys.stdout.isatty() else "no"
    words = [sys.executable, "-m", "pytest", f"--color={color}", "--durations=10"]
    words += ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]
    if not any("tests/" in word for word in arguments):
        words += ["tests/vm"]
    return f"""
set -e
modprobe -a {" ".join(MODULES)}
# Nothing may be left untested unseen in a machine that is made for these tests.
export CI=true PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
status=0
{shlex.join(words)} 2>&1 || status=$?
echo "pytest ended with $status" >&2
"""


def _nic(nic: Nic) -> list[str]:
    queues = f",queues={nic.queues}" if nic.queues > 1 else ""
    virtio = f",mq=on,vectors={2 * nic.queues + 2},disable-legacy=on,iommu_platform=on,ats=off"
    place = f"bus=pcie.0,addr={nic.pci_address.split(':')[2]}"
    return [
        f"-netdev tap,id={nic.tap},ifname={nic.tap},script=no,downscript=no{queues}",
        f"-device {nic.model},{place},netdev={nic.tap},mac={nic.mac}"
        + (virtio if nic.model == "virtio-net-pci" else ""),
    ]


def newest_kernel() -> Path:
    """Give the newest Debian kernel; raises VmError."""
    kernels = list(Path("/boot").glob("vmlinuz-6.1*-amd64"))
    if not kernels:
        raise VmError("no /boot/vmlinuz-6.1*-amd64: install linux-image-amd64, or run ./dev setup")
    return max(kernels, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def kvm_works() -> bool:
    """Say whether a VM can run without software emulation: a device node alone means little."""
    if not os.access("/dev/kvm", os.W_OK):
        return False
    with tempfile.NamedTemporaryFile() as sector:
        sector.write(_BOOT_SECTOR)
        sector.flush()
        words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"]
        words += ["-accel", "kvm", "-cpu", "host", "-m", "64"]
        words += ["-drive", f"file={sector.name},format=raw,if=floppy"]
        words += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        try:
            done = subprocess.run(words, capture_output=True, timeout=5, check=False)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 1


def _relay(source: IO[bytes], sink: IO[bytes]) -> None:
    with source:
        while data := os.read(source.fileno(), 1 << 16):
            sink.write(data.replace(b"\r\n", b"\n"))
            sink.flush()


def _last_lines(path: Path, count: int) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-count:]


if __name__ == "__main__":
    main()
