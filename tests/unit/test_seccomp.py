"""What the filter of system calls refuses, from whichever thread, and how that is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable

from dataplane import seccomp
from tests.unit.dataplane_process import ROOT, needs_engine

# Installs the filter while another thread runs; then each of the two makes the system calls.
PROGRAM = """
import ctypes, errno, json, os, sys, threading
from dataplane import seccomp
from dataplane.binding import tell_of_refusals
from dataplane.privileges import DATAPLANE, keep_only
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() == 0:
    keep_only(DATAPLANE)
names = seccomp.system_calls()
numbers = {name: number for number, name in names.items()}
def call(name, *arguments):
    result = libc.syscall(numbers[name], *map(ctypes.c_ulong, arguments))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
calls = json.loads(sys.argv[1])
installed, said = threading.Event(), []
def early():
    installed.wait()
    said.append([call(*each) for each in calls])
thread = threading.Thread(target=early, daemon=True)
thread.start()
tell_of_refusals(names)
seccomp.install(seccomp.profile())
installed.set()
thread.join()
said.append([call(*each) for each in calls])
print(json.dumps(said))
"""

NEWNS, NEWNET = 0x20000, 0x40000000
AF_ALG, AF_VSOCK, STREAM = 38, 40, 1
REFUSED: list[tuple[str | int, ...]] = [
    ("execve", 0, 0, 0),
    ("execveat", 0, 0, 0, 0, 0),
    ("fork",),
    ("vfork",),
    ("ptrace", 0, 0, 0, 0),
    ("process_vm_readv", 1, 0, 0, 0, 0, 0),
    ("kill", 1, 0),
    ("mount", 0, 0, 0, 0, 0),
    ("umount2", 0, 0),
    ("pivot_root", 0, 0),
    ("chroot", 0),
    ("unshare", NEWNET),
    ("setns", 0, NEWNS),
    ("setns", 0, 0),
    ("init_module", 0, 0, 0),
    ("finit_module", 0, 0, 0),
    ("delete_module", 0, 0),
    ("kexec_load", 0, 0, 0, 0),
    ("keyctl", 0, 0, 0, 0, 0),
    ("add_key", 0, 0, 0, 0, 0),
    ("bpf", 8, 0, 0),  # BPF_PROG_ATTACH
    ("bpf", 17, 0, 0),  # BPF_RAW_TRACEPOINT_OPEN
    ("perf_event_open", 0, 0, 0, 0, 0),
    ("userfaultfd", 0),
    ("io_uring_setup", 0, 0),
    ("open_by_handle_at", 0, 0, 0),
    ("mknodat", 0, 0, 0, 0),
    ("symlinkat", 0, 0, 0),
    ("linkat", 0, 0, 0, 0, 0),
    ("capset", 0, 0),
    ("setuid", 0),
    ("seccomp", 0, 0, 0),
    ("settimeofday", 0, 0),
    ("reboot", 0, 0, 0, 0),
    ("socket", AF_ALG, STREAM, 0),
    ("socket", AF_VSOCK, STREAM, 0),
]


ANSWERED: dict[tuple[str | int, ...], str] = {
    ("getpid",): "done",
    ("socket", 1, STREAM, 0): "done",
    ("setns", 2**32 - 1, NEWNET): "EBADF",
    ("io_setup", 0, 0): "EFAULT",
    ("openat2", 0, 0, 0, 0): "EINVAL",
    ("clone3", 0, 0): "ENOSYS",  # so that glibc takes clone, whose flags can be looked at
    ("clone", 17, 0, 0, 0, 0): "EPERM",  # a process; without a signal, which may be blocked
}


def answers(calls: Iterable[tuple[str | int, ...]]) -> tuple[list[str], str]:
    """Make system calls from both threads; give their errnos, and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(list(calls))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    early, late = json.loads(done.stdout)
    assert early == late
    return list(late), done.stderr


@needs_engine
def test_what_the_dataplane_has_no_use_for_is_refused_and_told_of() -> None:
    given, log = answers(REFUSED)
    assert dict(zip(REFUSED, given, strict=True)) == dict.fromkeys(REFUSED, "EPERM")
    names = {str(words[0]) for words in REFUSED}
    said = re.findall(r"refuses the system call (\d+) \((\w+)\); .* EPERM; said once\n", log)
    numbers = {name: number for number, name in seccomp.system_calls().items()}
    assert sorted(said) == sorted((str(numbers[name]), name) for name in names)
    assert log.count("\n") == len(names)


@needs_engine
def test_the_rest_is_answered_without_a_word() -> None:
    given, log = answers(ANSWERED)
    assert dict(zip(ANSWERED, given, strict=True)) == ANSWERED
    assert log == ""


def test_every_name_is_a_system_call() -> None:
    known = set(seccomp.system_calls().values())
    names = [name for rule in seccomp.profile()["syscalls"] for name in rule["names"]]
    assert set(names) <= known
    plain = [n for r in seccomp.profile()["syscalls"] if "args" not in r for n in r["names"]]
    assert len(plain) == len(set(plain))
