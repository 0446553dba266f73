"""Builds ``dataplane._engine``: the C engine and DPDK behind cffi's API mode.

``python -m dataplane.build`` compiles in place, in parallel and only what changed; wheels are built
by setuptools through :func:`ffibuilder`. Both read engine.h for the cdef and pkg-config for DPDK:
the static one that dpdk.sh (or PKG_CONFIG_PATH) names, or with ``DPDK=system`` the installed one.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI

MODULE = "dataplane._engine"
HERE = Path(__file__).parent
ENGINE = HERE / "engine"
OBJECTS = HERE.parent / "build" / "engine"
TARGET = HERE / f"_engine{sysconfig.get_config_var('EXT_SUFFIX')}"

SYSTEM_DPDK = os.environ.get("DPDK") == "system"

# DPDK calls much of librte_vhost experimental; the pinned release does not change it.
CFLAGS = ["-std=gnu11", "-O3", "-g", "-fPIC", "-fvisibility=hidden", "-DALLOW_EXPERIMENTAL_API="]
CFLAGS += ["-D_GNU_SOURCE="]
if not SYSTEM_DPDK:
    # Thread-locals are read without a call. The shared librte_eal has too many for that.
    CFLAGS += ["-ftls-model=initial-exec"]
OF_LIBPCAP = {"-ldbus-1", "-lsystemd"}
STRICT = ["-Wall", "-Wextra", "-Werror"]
# Calls within the module go straight to their target instead of through its PLT.
LDFLAGS = ["-shared", "-Wl,-Bsymbolic", "-Wl,-z,relro,-z,now"]


def find_dpdk() -> None:
    """Points pkg-config at the pinned DPDK, building it if need be, unless the caller has."""
    if SYSTEM_DPDK or "PKG_CONFIG_PATH" in os.environ:
        return
    done = subprocess.run([HERE / "dpdk.sh"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit("engine: no DPDK (reason above)")
    os.environ["PKG_CONFIG_PATH"] = f"{done.stdout.strip()}/lib/pkgconfig"


def pkg_config(*options: str) -> list[str]:
    """Asks pkg-config about libdpdk. Raises SystemExit, saying what to do, if it is not there."""
    find_dpdk()
    command = ["pkg-config", *options, "libdpdk"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        sys.exit("engine: pkg-config is not installed: run ./dev setup")
    except subprocess.CalledProcessError as error:
        where = os.environ.get("PKG_CONFIG_PATH", "the system's folders")
        sys.exit(f"engine: no libdpdk in {where}: run ./dev setup\n{error.stderr.strip()}")
    return shlex.split(done.stdout)


def dpdk_cflags() -> list[str]:
    """Compiler flags of DPDK; its headers count as the system's, so our warnings spare them."""
    flags = pkg_config("--cflags")
    return [re.sub(r"^-I", "-isystem", flag) for flag in flags]


def dpdk_libs() -> list[str]:
    """Linker flags of DPDK, in pkg-config's order: drivers register from --whole-archive."""
    if SYSTEM_DPDK:
        return pkg_config("--libs")
    # The archives by their full names: setuptools has the system's folder searched before ours.
    # DPDK is linked statically, libpcap is not: its own libraries are no concern of ours.
    flags = pkg_config("--static", "--libs")
    folder = next(flag for flag in flags if flag.startswith("-L"))[2:]
    named = [re.sub(r"^-l:", f"{folder}/", flag) for flag in flags]
    return [f for f in named if f not in OF_LIBPCAP and not f.startswith(("-L", "-lrte_"))]


def cdef() -> str:
    """The declarations between the cdef marks of engine.h."""
    text = (ENGINE / "engine.h").read_text(encoding="utf-8")
    parts = re.findall(r"/\* cdef begin \*/(.*?)/\* cdef end \*/", text, re.DOTALL)
    if not parts:
        sys.exit(f"engine: {ENGINE / 'engine.h'} has no '/* cdef begin */ … /* cdef end */'")
    return "\n".join(parts)


def sources() -> list[Path]:
    """The engine's C files."""
    return sorted(ENGINE.glob("*.c"))


def ffibuilder() -> FFI:
    """The FFI as setuptools' ``cffi_modules`` wants it."""
    ffi = FFI()
    ffi.cdef(cdef())
    ffi.set_source(
        MODULE,
        '#include "engine.h"',
        sources=[str(path) for path in sources()],
        include_dirs=[str(ENGINE)],
        extra_compile_args=[*CFLAGS, *dpdk_cflags()],
        extra_link_args=[*LDFLAGS[1:], *dpdk_libs()],
    )
    return ffi


def dependencies(listing: Path) -> list[str]:
    """The files named by a dependency file that gcc -MMD wrote."""
    _, _, names = listing.read_text(encoding="utf-8").replace("\\\n", " ").partition(":")
    return names.split()


def is_stale(target: Path, inputs: Iterable[Path | str]) -> bool:
    """Whether target is absent, or older than one of its inputs, or an input is gone."""
    try:
        made = target.stat().st_mtime_ns
        return any(Path(name).stat().st_mtime_ns > made for name in inputs)
    except FileNotFoundError:
        return True


def compile_one(job: tuple[Path, list[str]]) -> str:
    """Compiles one source file into OBJECTS. Returns the compiler's complaint, or nothing."""
    source, flags = job
    target = OBJECTS / f"{source.stem}.o"
    command = ["gcc", *flags, "-MMD", "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr or f"{source}: gcc failed"


def compile_stale(jobs: list[tuple[Path, list[str]]]) -> int:
    """Compiles what is out of date, one job a core. Returns how many. Exits on errors."""
    stale = []
    for source, flags in jobs:
        listing = OBJECTS / f"{source.stem}.d"
        known = dependencies(listing) if listing.exists() else [str(OBJECTS / "absent")]
        if is_stale(OBJECTS / f"{source.stem}.o", known):
            stale.append((source, flags))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = list(filter(None, pool.map(compile_one, stale)))
    if complaints:
        sys.exit("\n".join([*complaints, f"engine: {len(complaints)} files do not compile"]))
    return len(stale)


def link(objects: list[Path], libs: list[str]) -> None:
    """Links the module and swaps it in, so that a running dataplane keeps the one it has."""
    fresh = OBJECTS / TARGET.name
    command = ["gcc", *LDFLAGS, *map(str, objects), *libs, "-o", str(fresh)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stderr}\nengine: linking failed")
    fresh.replace(TARGET)


def forget_if_flags_changed(flags: list[str]) -> None:
    """Deletes all objects if they were made with other flags, or by another compiler."""
    compiler = subprocess.run(
        ["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
    )
    now = "\n".join([compiler.stdout.strip(), *flags])
    record = OBJECTS / "flags"
    if record.exists() and record.read_text(encoding="utf-8") == now:
        return
    for path in [*OBJECTS.glob("*.o"), *OBJECTS.glob("*.d")]:
        path.unlink()
    record.write_text(now, encoding="utf-8")


def main() -> None:
    """Brings the module beside this file up to date."""
    OBJECTS.mkdir(parents=True, exist_ok=True)
    ours = [*CFLAGS, *STRICT, f"-I{ENGINE}", *dpdk_cflags()]
    libs = dpdk_libs()
    forget_if_flags_changed([*ours, *libs])

    binding = OBJECTS / "_engine.c"
    with contextlib.redirect_stdout(io.StringIO()):  # cffi tells about every step
        ffibuilder().emit_c_code(str(binding))  # leaves the file alone if it is the same
    generated = [*CFLAGS, "-w", f"-I{ENGINE}", f"-I{sysconfig.get_path('include')}", *dpdk_cflags()]
    jobs = [(source, ours) for source in sources()] + [(binding, generated)]
    compiled = compile_stale(jobs)

    objects = [OBJECTS / f"{source.stem}.o" for source, _ in jobs]
    if compiled == 0 and not is_stale(TARGET, [*objects, ENGINE]):  # the folder: a file went
        print("engine: up to date")
        return
    link(objects, libs)
    print(f"engine: {compiled} of {len(jobs)} files compiled, linked to {TARGET.name}")


if __name__ == "__main__":
    main()
