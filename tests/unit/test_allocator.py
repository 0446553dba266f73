"""Memory that is free in one thread of the agent is free for all others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Eight threads hold memory of the C allocator at the same time; malloc_info() tells of its arenas.
PROGRAM = """
import ctypes, sys, threading
from cni_virtio.allocator import share_one_arena

if sys.argv[1] == "shared":
    share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.open_memstream.restype = ctypes.c_void_p
all_there = threading.Barrier(8)

def allocate():
    libc.malloc(5000)
    all_there.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = ctypes.c_void_p(libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
libc.malloc_info(0, stream)
libc.fclose(stream)
print(text.value.decode().count("<heap "))
"""


def arenas(how: str) -> int:
    words = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return int(done.stdout)


def test_threads_share_one_arena() -> None:
    assert arenas("as it is") > 1
    assert arenas("shared") == 1
