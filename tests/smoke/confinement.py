"""Fewer privileges: what executes a command as a unit of manifests/systemd would."""

from __future__ import annotations

import re
import sys

from tests.unit.manifests import MANIFESTS

# What MemoryDenyWriteExecute= asks of the kernel, where it knows that (6.3).
_NO_NEW_CODE = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


def confined(name: str) -> tuple[str, ...]:
    """Give what executes a command as the unit of that name does."""
    text = (MANIFESTS / f"systemd/cni-virtio-{name}.service").read_text()
    (line,) = re.findall("^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    kept = ",".join(f"+{each.removeprefix('CAP_').lower()}" for each in line.split())
    privileges = ("--no-new-privs", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}")
    return ("setpriv", *privileges, sys.executable, "-c", _NO_NEW_CODE)
