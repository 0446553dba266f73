"""manifests/systemd, containerd and podman, and how programs come onto a node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from cni_virtio import ipam
from cni_virtio.agent import STOP_PATIENCE_S
from cni_virtio.privileges import AGENT
from dataplane import privileges, seccomp
from dataplane.privileges import DATAPLANE
from tests.unit.manifests import (
    KUBERNETES,
    MANIFESTS,
    ROOT,
    agent_config,
    our_netconfs,
    plugin_confs,
)
from tests.unit.test_manifests_kubernetes import container, daemon_set

UNITS = sorted((MANIFESTS / "systemd").glob("*.service"))
CONFLISTS = [
    MANIFESTS / "containerd/10-cni-virtio.conflist",
    MANIFESTS / "podman/cni-virtio.conflist",
]
INSTALL = KUBERNETES / "base/install.sh"
CONTAINERFILE = KUBERNETES / "Containerfile"
MOST_EXPOSED = 4.1


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- systemd --------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the programs of this checkout."""
    for unit in UNITS:
        text = unit.read_text().replace("/usr/lib/cni-virtio/bin/", f"{ROOT}/.venv/bin/")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def test_systemd_finds_no_fault(units: Path) -> None:
    assert run("systemd-analyze", "verify", "--man=no", *units.iterdir()) == ""


def test_systemd_would_find_one(units: Path) -> None:
    unit = units / "cni-virtio-agent.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSec"))
    with pytest.raises(AssertionError, match="WatchDogSec"):
        assert run("systemd-analyze", "verify", "--man=no", unit) == ""


def test_supervisors_allow_for_the_calls_that_the_agent_waits_for() -> None:
    unit = (MANIFESTS / "systemd/cni-virtio-agent.service").read_text()
    (told,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    pod = daemon_set()["spec"]["template"]["spec"]
    assert ipam.DEADLINE_S < STOP_PATIENCE_S < int(told) == pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_hardened(unit: Path) -> None:
    printed = run("systemd-analyze", "security", "--offline=true", unit)
    (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", printed)
    assert float(score) <= MOST_EXPOSED


def test_the_programs_take_the_units_arguments() -> None:
    """Any wrong one would be status 2 at once; here it is the configuration that is not there."""
    for unit in UNITS:
        (line,) = re.findall("^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        program, *words = line.split()
        assert words[-2:] == ["--config", "/etc/cni-virtio/agent.yaml"]
        words[-1] = "/nonexistent/agent.yaml"
        done = subprocess.run(
            [ROOT / ".venv/bin" / Path(program).name, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.stderr.startswith("/nonexistent/agent.yaml: ")


def test_the_units_configuration_is_one_that_the_agent_takes() -> None:
    config = agent_config(MANIFESTS / "systemd/agent.yaml")
    assert config.dataplane.supervised_by == "other"
    assert config.agent.socket.parent == Path("/run/cni-virtio")  # RuntimeDirectory=


CAPABILITIES = {"agent": AGENT, "dataplane": DATAPLANE}


@pytest.mark.parametrize("name", CAPABILITIES)
def test_units_grant_what_the_programs_keep_and_say_why(name: str) -> None:
    text = (MANIFESTS / f"systemd/cni-virtio-{name}.service").read_text()
    (line,) = re.findall("^CapabilityBoundingSet=CAP_(.*)$", text, re.MULTILINE)
    assert line.split(" CAP_") == list(CAPABILITIES[name])
    reasons = dict(re.findall(r"^#   CAP_(\w+) +(\S.*)$", text, re.MULTILINE))
    assert reasons == CAPABILITIES[name]


@pytest.mark.parametrize("name", CAPABILITIES)
def test_the_daemon_set_grants_what_the_programs_keep_and_says_why(name: str) -> None:
    added = container(name)["securityContext"]["capabilities"]["add"]
    # For a filter of system calls that units do not have.
    needed = [each for each in added if each != "SYS_NICE"]
    assert needed == list(CAPABILITIES[name])
    text = (KUBERNETES / "base/daemonset.yaml").read_text()
    section = text.partition(f"- name: {name}\n")[2]
    reasons = dict(re.findall(r"^ +- ([A-Z_]+) # (.*)$", section, re.MULTILINE)[: len(added)])
    assert {each: reasons[each] for each in needed} == CAPABILITIES[name]


@pytest.mark.parametrize("name", sorted({*AGENT, *DATAPLANE}))
def test_capabilities_have_the_kernel_s_numbers(name: str) -> None:
    header = Path("/usr/include/linux/capability.h").read_text()
    assert re.findall(rf"^#define CAP_{name}\s+(\d+)", header, re.MULTILINE) == [
        str(privileges.NUMBERS[name])
    ]


def test_the_unit_refuses_nothing_that_the_dataplane_s_own_filter_allows() -> None:
    text = (MANIFESTS / "systemd/cni-virtio-dataplane.service").read_text()
    (line,) = re.findall("^SystemCallFilter=(.*)$", text, re.MULTILINE)
    allowed = {call for name in line.split() for call in in_filter_set(name)}
    names = {name for rule in seccomp.profile()["syscalls"] for name in rule["names"]}
    assert names | {"seccomp"} <= allowed  # which installs it


def in_filter_set(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    lines = run("systemd-analyze", "syscall-filter", name).splitlines()[1:]
    inner = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return {call for each in inner for call in in_filter_set(each)}


# --- runtimes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", CONFLISTS, ids=lambda file: str(file.parent.name))
def test_conflists_are_what_the_plugins_take(file: Path) -> None:
    (netconf,) = our_netconfs(file.read_text())
    assert (netconf.network, netconf.interface) == ("pods", "kernel")
    types = [conf["type"] for conf in plugin_confs(file.read_text())]
    assert types[0] == "cni-virtio"
    for plugin in [*types[1:], "host-local"]:
        assert (Path("/usr/lib/cni") / plugin).exists()


def test_conflists_have_names_and_addresses_of_their_own() -> None:
    texts = [file.read_text() for file in CONFLISTS]
    texts.append((KUBERNETES / "base/90-cni-virtio.conflist").read_text())
    assert len({json.loads(text)["name"] for text in texts}) >= 2
    assert all(
        json.loads(text)["cniVersion"] == "1.0.0" for text in texts
    )  # containerd 1.6, podman 4


CONTAINERD_CONFIG = MANIFESTS / "containerd/config.toml"


def test_containerd_s_configuration_names_the_folders_that_the_rest_does() -> None:
    config = tomllib.loads(CONTAINERD_CONFIG.read_text())
    assert config["version"] == 2
    assert config["plugins"]["io.containerd.grpc.v1.cri"]["cni"] == {
        "bin_dir": "/opt/cni/bin",
        "conf_dir": "/etc/cni/net.d",
    }


@pytest.mark.skipif(shutil.which("containerd") is None, reason="containerd is not installed")
def test_containerd_takes_it() -> None:
    printed = run("containerd", "--config", CONTAINERD_CONFIG, "config", "dump")
    assert 'bin_dir = "/opt/cni/bin"' in printed


# --- the plugin, put onto a node ------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Path:
    for name in ("bin", "net.d", "image"):
        (tmp_path / name).mkdir()
    shutil.copy("/bin/sleep", tmp_path / "image/cni-virtio")
    (tmp_path / "image/90-cni-virtio.conflist").write_text("{}")
    return tmp_path


def install(node: Path) -> subprocess.CompletedProcess[str]:
    image = node / "image"
    words = [image / "cni-virtio", node / "bin", image / "90-cni-virtio.conflist", node / "net.d"]
    return subprocess.run(
        ["sh", INSTALL, *words], capture_output=True, text=True, check=False, timeout=10
    )


def test_install_puts_both_in_place_and_nothing_else(node: Path) -> None:
    assert install(node).returncode == 0
    assert [file.name for file in (node / "bin").iterdir()] == ["cni-virtio"]
    assert os.access(node / "bin/cni-virtio", os.X_OK)
    assert [file.name for file in (node / "net.d").iterdir()] == ["90-cni-virtio.conflist"]
    assert install(node).stdout == ""  # nothing to do


def test_a_plugin_that_runs_is_replaced(node: Path) -> None:
    assert install(node).returncode == 0
    running = subprocess.Popen([node / "bin/cni-virtio", "60"])
    try:
        time.sleep(0.05)
        with pytest.raises(OSError, match="Text file busy"):
            (node / "bin/cni-virtio").write_bytes(b"")
        shutil.copy("/bin/true", node / "image/cni-virtio")
        assert install(node).returncode == 0
        assert (node / "bin/cni-virtio").read_bytes() == Path("/bin/true").read_bytes()
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()


def test_without_the_plugin_there_is_no_configuration(node: Path) -> None:
    (node / "image/cni-virtio").unlink()
    assert install(node).returncode != 0
    assert list((node / "net.d").iterdir()) == []


# --- the image, and ./dev install -----------------------------------------------------------------


def test_the_image_has_the_libraries_of_the_engine() -> None:
    (engine,) = (ROOT / "dataplane").glob("_engine*.so")
    libraries = re.findall(r"=> (/\S+)", run("ldd", engine))
    ends = ["/".join(Path(library).parts[-2:]) for library in libraries]
    owners = {run("dpkg-query", "-S", f"*/{end}").split(":")[0] for end in ends}
    listed = re.findall(r"install.*\n\s+(.*?) \\", CONTAINERFILE.read_text())[0].split()
    depends = run("apt-cache", "depends", "--recurse", "--installed", "--important", *listed)
    assert owners <= set(re.findall(r"^(\S+)$", depends, re.MULTILINE))


def test_dev_installs_a_node(tmp_path: Path) -> None:
    environment = os.environ | {"DESTDIR": str(tmp_path)}
    (tmp_path / "etc/cni-virtio").mkdir(parents=True)
    (tmp_path / "etc/cni-virtio/agent.yaml").write_text("agent: {}\n")
    subprocess.run([ROOT / "dev", "install"], env=environment, check=True, timeout=110)
    lib = tmp_path / "usr/lib/cni-virtio"
    for name in ("cni-virtio-agent", "cni-virtio-dataplane", "cni-virtioctl"):
        first = (lib / "bin" / name).read_text().split("\n")[0]
        assert first.startswith("#!/usr/lib/cni-virtio/bin/python")
    for file in (path for path in lib.rglob("*") if path.is_file() and not path.is_symlink()):
        assert str(tmp_path).encode() not in file.read_bytes(), f"{file} knows where it was made"
    imports = "import cni_virtio.agent, dataplane._engine, cni_virtio; print(cni_virtio.__file__)"
    assert run(lib / "bin/python", "-P", "-c", imports).startswith(str(lib))
    assert (tmp_path / "etc/cni-virtio/agent.yaml").read_text() == "agent: {}\n"
    assert {file.name for file in (tmp_path / "usr/lib/systemd/system").iterdir()} == {
        unit.name for unit in UNITS
    }
    for line in re.findall(r"--from=build /image(/\S+)", CONTAINERFILE.read_text()):
        assert (tmp_path / line[1:]).exists()
    assert (tmp_path / "usr/bin/cni-virtioctl").resolve() == lib / "bin/cni-virtioctl"
