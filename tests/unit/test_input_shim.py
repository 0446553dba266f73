"""The static client against absurd input, as it is built and under the sanitizers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import inputs

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "bin" / "cni-virtio"
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
MIB = 1 << 20
ABSENT = b'{"agentSocket": "/none"}'

STDIN = {
    "nothing": b"",
    "zeros": b"\0" * MIB,
    "the largest": b'{"cniVersion": "' + b"1" * (MIB - 18) + b'"}',
    "one too large": b" " * (MIB + 1),
    "a string that does not end": b'{"cniVersion": "1.0.0',
    "an escape that does not end": b'{"cniVersion": "1\\',
    "half an escape": b'{"cniVersion": "\\u00"}',
    "an escape of nothing": b'{"agentSocket": "/\\u0000"}',
    "half a character": b'{"agentSocket": "/\\ud800"}',
    "brackets": b"{" * MIB,
    "nested": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
    "a key without a value": b'{"cniVersion"',
    "a long key": b'{"' + b"k" * 900_000 + b'": "1"}',
    "escapes": b'{"cniVersion": "' + b"\\u0041" * 170_000 + b'"}',
    "a long path": b'{"agentSocket": "/' + b"x" * 900_000 + b'"}',
    "no utf-8": b'{"cniVersion": "\xff\xc3", "agentSocket": "/\xff"}',
}
# One variable can have 128 KiB at most.
ENVIRONMENTS: dict[str, dict[bytes, bytes]] = {
    "none": {},
    "much": {b"CNI_X%d" % number: b"y" * 120_000 for number in range(8)},
    "a long netns": {b"CNI_NETNS": b"/" + b"x" * 120_000},
    "no utf-8": {b"CNI_NETNS": b"/\xff\xfe\xc3", b"CNI_ARGS": b"\xff"},
    "names only": {b"CNI_": b"", b"K8S_": b"", b"CNI_IFNAME": b""},
}
REPLIES = {
    "nothing": b"",
    **{f"{size} bytes of its head": bytes(size) for size in range(1, 8)},
    "a body cut off": struct.pack("<II", 0, 10) + b"123456789",
    "a body without end": struct.pack("<II", 0, 0xFFFFFFFF) + b"x" * 100_000,
    "another status": struct.pack("<II", 0xFFFFFFFF, 0),
    "more than it says": struct.pack("<II", 0, 2) + b"{}surplus",
}


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim as the compiler's sanitizers have it: any misstep in memory ends it."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc: run ./dev setup")
    program = tmp_path_factory.mktemp("shim") / "cni-virtio"
    version = '-DCNI_VIRTIO_VERSION="0"'
    source = ROOT / "cni_virtio" / "shim.c"
    subprocess.run(["gcc", *SANITIZED, version, "-o", program, source], check=True)
    return program


def call(
    program: Path, command: str, stdin: bytes | int, env: dict[bytes, bytes] | None = None
) -> tuple[int, bytes]:
    """Exit status and stdout of a call that says nothing of its own errors."""
    done = subprocess.run(
        [program],
        input=stdin if isinstance(stdin, bytes) else None,
        stdin=stdin if isinstance(stdin, int) else None,
        env={b"CNI_COMMAND": command.encode(), **(env or {})},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == b""
    return done.returncode, done.stdout


def failed(result: tuple[int, bytes]) -> dict[str, Any]:
    """The CNI error that a call answered with."""
    status, stdout = result
    assert status == 1
    said: dict[str, Any] = json.loads(stdout)
    assert set(said) == {"cniVersion", "code", "msg", "details"}
    return said


@pytest.mark.parametrize("stdin", STDIN.values(), ids=STDIN.keys())
def test_any_configuration_gets_an_answer(sanitized: Path, stdin: bytes) -> None:
    fits = len(stdin) <= MIB
    status, stdout = call(sanitized, "VERSION", stdin)
    assert (status, "supportedVersions" in json.loads(stdout)) == (0 if fits else 1, fits)
    code = failed(call(sanitized, "DEL", stdin))["code"]
    assert code in ((7, 11) if fits else (6,))


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_any_environment_gets_an_answer(
    sanitized: Path, command: str, env: dict[bytes, bytes]
) -> None:
    assert failed(call(sanitized, command, ABSENT, env))["code"] in (3, 4, 11)


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        ("/dev/zero", os.O_RDONLY, 6),  # without end
        ("/dev/urandom", os.O_RDONLY, 6),
        ("/", os.O_RDONLY, 5),
        ("/dev/null", os.O_WRONLY, 5),
    ],
)
def test_a_stdin_that_is_no_configuration(path: str, flags: int, code: int) -> None:
    fd = os.open(path, flags)
    try:
        for command in ("VERSION", "DEL"):
            assert failed(call(BUILT, command, fd))["code"] == code
    finally:
        os.close(fd)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """A socket whose listener reads requests, and gives the reply that the list has."""
    path, replies = tmp_path / "a.sock", [b""]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(replies[0])

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, replies
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def test_any_answer_is_passed_on_whole_or_not_at_all(
    sanitized: Path, answering: tuple[Path, list[bytes]]
) -> None:
    path, replies = answering
    stdin = json.dumps({"agentSocket": str(path)}).encode()
    for what, reply in REPLIES.items():
        replies[0] = reply
        result = call(sanitized, "DEL", stdin)
        if what == "more than it says":
            assert result == (0, b"{}")
        else:
            assert failed(result)["code"] == 11, what


versions = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=15)


@given(
    st.dictionaries(st.sampled_from(["name", "a", "\\", '"']) | inputs.any_text, inputs.any_json),
    versions.filter(lambda text: "\0" not in text),
    inputs.any_json,
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_it_finds_the_version_that_a_parser_of_json_finds(
    before: dict[str, Any], version: str, after: Any, escaped: bool, indent: int | None
) -> None:
    conf = {**before, "cniVersion": version, "last": {"cniVersion": after}}
    text = json.dumps(conf, ensure_ascii=escaped, indent=indent)
    status, stdout = call(BUILT, "VERSION", text.encode("utf-8", "replace"))
    assert status == 0
    assert json.loads(stdout)["cniVersion"] == version
