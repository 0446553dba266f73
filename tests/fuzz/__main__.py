"""Fuzzing by hand: ``python -m tests.fuzz [LIMIT]``, or ``minimise``, or ``coverage``.

LIMIT is a number of runs, or of seconds with an s behind it. What is new stays in build/fuzz/corpus
for the next time; ``minimise`` makes tests/fuzz/corpus.tar.xz of it. What makes the target fail is
written to build/fuzz: mended, it belongs under a name that says what it was into
tests/fuzz/regressions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.inputs import dictionary
from tests.fuzz.program import BUILD, build

OPTIONS = ["-max_len=1300", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={BUILD}/"]


def limit(text: str) -> str:
    """Give libFuzzer's option for a number of runs, or of seconds."""
    number = text.removesuffix("s")
    if not number.isdecimal():
        sys.exit(f"fuzz: {text!r} is neither a number of runs nor, as in 600s, of seconds")
    return f"-max_total_time={number}" if text.endswith("s") else f"-runs={number}"


def write_dictionary() -> Path:
    """Write libFuzzer's dictionary; its path."""
    path = BUILD / "dictionary"
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in dictionary())
    path.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")
    return path


def inputs(folder: Path) -> list[str]:
    """Write all kept inputs into a folder; it and that of the regressions."""
    corpus.write_seeds(folder)
    corpus.unpack(folder)
    return [str(folder), str(corpus.REGRESSIONS)]


def fuzz(until: str) -> int:
    """Look for faults; the fuzzer's exit code."""
    program, grown = build(), BUILD / "corpus"
    grown.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as kept:
        words = [*OPTIONS, until, f"-dict={write_dictionary()}", str(grown), *inputs(Path(kept))]
        return subprocess.run([program, *words], check=False).returncode


def minimise() -> int:
    """Keep of all inputs those which together reach as much."""
    program, grown = build(), BUILD / "corpus"
    grown.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as least:
        folders = [least, *inputs(Path(kept)), str(grown)]
        subprocess.run([program, "-merge=1", *OPTIONS, *folders], check=True)
        print(f"{corpus.pack(Path(least))} inputs in {corpus.ARCHIVE}")
    return 0


def coverage() -> int:
    """Say of each of the engine's files how much the kept inputs reach; lines go to a file."""
    program, raw, merged = build(coverage=True), BUILD / "raw", BUILD / "merged"
    grown = [str(BUILD / "corpus")] if (BUILD / "corpus").exists() else []
    with tempfile.TemporaryDirectory() as kept:
        replay = [str(program), "-runs=0", *inputs(Path(kept)), *grown]
        environment = {**os.environ, "LLVM_PROFILE_FILE": str(raw)}
        subprocess.run(replay, check=True, env=environment)
    subprocess.run(["llvm-profdata-14", "merge", "-o", merged, raw], check=True)
    words = [
        str(program),
        f"-instr-profile={merged}",
        "-ignore-filename-regex=tests/fuzz|/include/",
    ]
    subprocess.run(["llvm-cov-14", "report", *words], check=True)
    shown = BUILD / "coverage.txt"
    with shown.open("w", encoding="utf-8") as lines:
        subprocess.run(["llvm-cov-14", "show", *words], check=True, stdout=lines)
    print(f"line by line: {shown}")
    return 0


def main() -> int:
    """Do what the command line says."""
    word = sys.argv[1] if len(sys.argv) > 1 else "600s"
    if word == "minimise":
        return minimise()
    if word == "coverage":
        return coverage()
    return fuzz(limit(word))


if __name__ == "__main__":
    sys.exit(main())
