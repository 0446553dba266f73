"""The files that container runtimes take their networks from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TYPE: Final = "cni-virtio"
_SUFFIXES: Final = (".conf", ".conflist", ".json")
_DELEGATING: Final = ("multus", "multus-shim")


@dataclass(frozen=True)
class NetworkFile:
    """One file: the netconfs of its chain, or in `error` why a runtime cannot use it."""

    path: Path
    name: str = ""
    version: str | None = None
    plugins: tuple[dict[str, Any], ...] = ()
    error: str = ""

    @property
    def ours(self) -> list[dict[str, Any]]:
        """Our own netconfs, as the runtime would pass them."""
        of_list = {"name": self.name}
        if self.version is not None:
            of_list["cniVersion"] = self.version
        return [plugin | of_list for plugin in self.plugins if plugin.get("type") == TYPE]

    @property
    def delegates(self) -> bool:
        """Whether it calls other networks' plugins, as Multus does."""
        return bool(self.plugins) and self.plugins[0].get("type") in _DELEGATING


def network_files(folder: Path) -> list[NetworkFile]:
    """Read a folder in the runtimes' order; one that is not there is empty. Raises OSError."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file()]
    return [_read(path) for path in sorted(paths)]


def _read(path: Path) -> NetworkFile:
    try:
        data = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        return NetworkFile(path, error=f"line {error.lineno}: not JSON: {error.msg}")
    except (OSError, ValueError) as error:
        return NetworkFile(path, error=f"cannot be read: {error}")
    if not isinstance(data, dict):
        return NetworkFile(path, error="not a JSON object")
    plugins = data.get("plugins") if path.suffix == ".conflist" else [data]
    if reason := _error(path, data.get("name"), plugins):
        return NetworkFile(path, error=reason)
    version = data.get("cniVersion")
    version = version if isinstance(version, str) else None
    return NetworkFile(path, data["name"], version, tuple(plugins or ()))


def _error(path: Path, name: Any, plugins: Any) -> str:
    """Say why a runtime cannot use a network; "" if it can."""
    if not isinstance(name, str) or not name:
        return '"name" is missing'
    if not isinstance(plugins, list) or not plugins:
        return '"plugins" is missing or empty'
    if all(isinstance(each, dict) and isinstance(each.get("type"), str) for each in plugins):
        return ""
    hint = "" if path.suffix == ".conflist" else " (a list of plugins must be called .conflist)"
    return f'"type" of a plugin is missing{hint}'
