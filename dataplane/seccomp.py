"""The system calls that the dataplane may make: a profile, kept as data, and its filter.

The profile has the form of the OCI runtime specification, which tools know. It is for the process
itself to install: it refuses to execute a program, which a container runtime has yet to do.
"""

from __future__ import annotations

import ctypes
import json
import os
from importlib import resources
from typing import Any, Final

_LIBRARY: Final = "libseccomp.so.2"
_ACTIONS: Final = {
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,  # and the errno
}
_OPERATORS: Final = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_ATTRIBUTES: Final = {"NO_NEW_PRIVS": 3, "ALL_THREADS": 4, "NO_SLOWDOWN": 7, "TREE": 8}
_NUMBERS: Final = 1024


class _Arg(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


class SeccompError(OSError):
    """The filter cannot be installed; the text says why."""

    def __str__(self) -> str:
        return str(self.strerror)


def profile() -> dict[str, Any]:
    """Give the dataplane's profile."""
    text = resources.files("dataplane").joinpath("seccomp.json").read_text("utf-8")
    return dict(json.loads(text))


def system_calls() -> dict[int, str]:
    """Give the names of the machine's system calls, by number.

    :raises SeccompError: the library is missing.
    """
    library = _load()
    found = {}
    for number in range(_NUMBERS):
        pointer = library.seccomp_syscall_resolve_num_arch(library.seccomp_arch_native(), number)
        if pointer:
            found[number] = (ctypes.cast(pointer, ctypes.c_char_p).value or b"").decode()
    return found


def install(given: dict[str, Any]) -> None:
    """Filter the system calls of every thread, for good.

    :raises SeccompError: the library is missing, or the kernel has no seccomp.
    """
    library = _load()
    context = ctypes.c_void_p(library.seccomp_init(_action(given, "defaultAction")))
    try:
        # Looked up in a tree; and on old kernels, no mitigation that costs every branch.
        for name, value in zip(_ATTRIBUTES, (1, 1, 1, 2), strict=True):
            _check(name, library.seccomp_attr_set(context, _ATTRIBUTES[name], value))
        for rule in given["syscalls"]:
            _add(library, context, rule)
        _check("loading it", library.seccomp_load(context))
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, rule: dict[str, Any]) -> None:
    conditions = [
        _Arg(each["index"], _OPERATORS[each["op"]], each["value"], each.get("valueTwo", 0))
        for each in rule.get("args", [])
    ]
    array = (_Arg * len(conditions))(*conditions)
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            continue  # newer than the library, so not used by what is as old
        action = _action(rule, "action")
        result = library.seccomp_rule_add_array(context, action, number, len(array), array)
        _check(name, result)


def _action(holder: dict[str, Any], key: str) -> int:
    return _ACTIONS[holder[key]] | int(holder.get("errnoRet", 0))


def _check(what: str, result: int) -> None:
    if result < 0:
        raise SeccompError(-result, f"seccomp filter: {what}: {os.strerror(-result)}")


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        text = f"seccomp filter: {error}: install the package libseccomp2"
        raise SeccompError(error.errno or 2, text) from None
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    )
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    library.seccomp_arch_native.restype = ctypes.c_uint32
    return library
