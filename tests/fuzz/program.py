"""Builds the fuzz target: the engine's C files and those here, under libFuzzer and sanitizers."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dataplane.build import ENGINE, dependencies, dpdk_cflags, dpdk_libs, is_stale

HERE = Path(__file__).parent
POOLS = HERE.parent / "pools"
BUILD = HERE.parent.parent / "build" / "fuzz"

INCLUDED = {"worker.c", "port_tap.c", "port_vhost.c"}
"""By files here, which play what is around them."""

CFLAGS = ["-std=gnu11", "-O1", "-g", "-DALLOW_EXPERIMENTAL_API=", "-D_GNU_SOURCE="]
CFLAGS += ["-Wall", "-Wextra", "-Werror", "-include", "clock.h"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
WRAPPED = ["rte_pktmbuf_pool_create", "rte_mempool_create", "rte_eth_dev_info_get"]
WRAPPED += ["rte_eth_dev_configure", "rte_eth_dev_start"]
COVERAGE = ["-fprofile-instr-generate", "-fcoverage-mapping"]


def clang(words: list[str]) -> str:
    """Run the compiler; its complaint, or nothing."""
    done = subprocess.run(["clang", *words], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr or f"clang failed: {words[-1]}"


def must(complaints: list[str]) -> None:
    """Raise RuntimeError if there is any complaint."""
    if any(complaints):
        raise RuntimeError("\n".join(filter(None, complaints)))


def leads_into_engine(source: Path) -> bool:
    """Whether the fuzzer is to look for new ways through this file: not through our own checks."""
    return source.parent == ENGINE or source.name in {"rounds.c", "tap.c", "frontend.c"}


def build(*, coverage: bool = False) -> Path:
    """Compile what is out of date; the program. RuntimeError with the compiler's words."""
    folder = BUILD / ("coverage" if coverage else "forward.o")
    folder.mkdir(parents=True, exist_ok=True)
    extra = COVERAGE if coverage else []
    flags = [*CFLAGS, *SANITIZERS, *extra, f"-I{HERE}", f"-I{POOLS}", f"-I{ENGINE}", *dpdk_cflags()]
    engine = [path for path in ENGINE.glob("*.c") if path.name not in INCLUDED]
    sources = sorted([*engine, *HERE.glob("*.c"), *POOLS.glob("*.c")])
    objects = [folder / f"{path.stem}.o" for path in sources]
    stamp = folder / "flags"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != "\n".join(flags):
        for path in folder.glob("*.o"):
            path.unlink()
    stale = []
    for source, target in zip(sources, objects, strict=True):
        listing = target.with_suffix(".d")
        known = dependencies(listing) if listing.exists() else [str(folder / "absent")]
        if is_stale(target, known):
            guide = ["-fsanitize=fuzzer-no-link"] if leads_into_engine(source) else []
            stale.append([*flags, *guide, "-MMD", "-c", str(source), "-o", str(target)])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        must(list(pool.map(clang, stale)))
    stamp.write_text("\n".join(flags), encoding="utf-8")
    program = BUILD / ("forward-coverage" if coverage else "forward")
    if stale or is_stale(program, objects):
        wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
        link = [*SANITIZERS, *extra, "-fsanitize=fuzzer", *wrap, *map(str, objects)]
        must([clang([*link, *dpdk_libs(), "-o", str(program)])])
    return program


if __name__ == "__main__":
    print(build())
