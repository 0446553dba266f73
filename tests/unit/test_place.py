"""Whether the socket that is at a path is still one's own."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.place import Place


def test_a_socket_of_the_same_number_in_another_file_system_is_another(tmp_path: Path) -> None:
    """As where a tmpfs is mounted anew: each counts its inodes from the beginning."""
    path, numbers = tmp_path / "d.sock", []
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "none", str(tmp_path)]
    with ExitStack() as stack:
        for _ in range(2):
            if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
                pytest.skip("a file system of its own needs root")
            stack.callback(subprocess.check_call, ["umount", tmp_path])
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
            numbers.append(os.lstat(path).st_ino)
            if len(numbers) == 1:
                place = Place(str(path))
                assert place.is_ours()
        if numbers[0] != numbers[1]:
            pytest.skip("this kernel gives no number twice")
        assert not place.is_ours()
        place.unlink()
        assert path.exists()
