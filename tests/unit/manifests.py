"""What is under manifests/, read for the tests."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cni_virtio.config import AgentConfig, load
from cni_virtio.config_checks import Machine
from cni_virtio.netconf import NetConf, parse

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
KUBERNETES = MANIFESTS / "kubernetes"
Object = dict[str, Any]


def documents(file: Path) -> list[Object]:
    """Give the documents of a YAML file."""
    return [each for each in YAML(typ="safe").load_all(io.StringIO(file.read_text())) if each]


def agent_config(file: Path) -> AgentConfig:
    """Load a configuration as on a node with four cores; raises ConfigError."""
    cores = frozenset(range(4))
    nowhere = Path("/nonexistent")
    return load(file, Machine(cores, cores, 16 << 30, nowhere, nowhere))


def plugin_confs(text: str) -> Iterator[Object]:
    """Give what a runtime hands to each plugin of a list, or of a single configuration."""
    conf = json.loads(text)
    for plugin in conf.get("plugins", [conf]):
        yield {"cniVersion": conf["cniVersion"], "name": conf["name"]} | plugin


def our_netconfs(text: str) -> list[NetConf]:
    """Parse what is for our plugin; raises CniError."""
    mine = [conf for conf in plugin_confs(text) if conf["type"] == "cni-virtio"]
    return [parse(json.dumps(conf).encode()) for conf in mine]
