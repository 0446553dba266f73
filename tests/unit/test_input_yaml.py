"""Every YAML file is either accepted, as it was meant, or refused by one line with its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_virtio.config import AgentConfig, ConfigError, load
from cni_virtio.config_checks import Machine
from tests.unit import inputs

MACHINE = Machine(
    online_cores=frozenset(range(8)),
    allowed_cores=frozenset(range(8)),
    memory_bytes=8 << 30,
    pci_devices=Path("/nonexistent"),
    vhost_net=Path("/nonexistent"),
)
SECTIONS = ("agent", "dataplane", "uplinks", "networks")
# What a value of any kind may be replaced by, and is wrong in all places: no text of it is right.
BAD_VALUES: tuple[Any, ...] = (-1, 10**18, 0.5, [], {"x": 1}, "\u2028 ", "é é", None)

uplinks = st.fixed_dictionaries(
    {"name": inputs.names, "device": st.just("net_null")},
    optional={
        "queues": st.integers(1, 256),
        "queue_size": st.integers(64, 32768),
        "offloads": st.fixed_dictionaries({}, optional={"tso": st.booleans()}),
        "exception": st.fixed_dictionaries({}, optional={"queues": st.integers(1, 64)}),
    },
)
networks = st.fixed_dictionaries({"name": inputs.names}, optional={"mtu": st.integers(68, 65521)})
agents = st.fixed_dictionaries(
    {},
    optional={
        "socket": inputs.paths.map("/a{}".format),
        "state_dir": inputs.paths,
        "socket_dir": st.just("/run/v"),
        "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
        "metrics": st.sampled_from(["127.0.0.1:9477", "[::1]:1"]),
    },
)
dataplanes = st.fixed_dictionaries(
    {},
    optional={
        "socket": inputs.paths.map("/d{}".format),
        "main_core": st.integers(0, 7),
        "cores": st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True),
        "memory": st.integers(64, 8192).map("{}Mi".format) | st.integers(64 << 20, 8 << 30),
        "idle": st.sampled_from(["adaptive", "poll"]),
        "supervised_by": st.sampled_from(["agent", "other"]),
    },
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid configuration; uplinks differ in their devices, networks in uplink and tag."""
    nics: list[Any] = draw(st.lists(uplinks, max_size=2, unique_by=lambda each: each["name"]))
    nics = [{**nic, "device": f"net_null{number}"} for number, nic in enumerate(nics)]
    nets: list[Any] = draw(st.lists(networks, max_size=2, unique_by=lambda each: each["name"]))
    if nics:
        uplink = nics[-1]["name"]
        nets = [{**net, "uplink": uplink, "vlan": tag} for tag, net in enumerate(nets, start=1)]
    parts = {
        "agent": draw(agents),
        "dataplane": draw(dataplanes),
        "uplinks": nics,
        "networks": nets,
    }
    return {key: parts[key] for key in draw(st.permutations(SECTIONS)) if parts[key]}


Lines = dict[inputs.Path, int]


def block_style(value: Any) -> tuple[str, Lines]:
    """YAML in block style, and the line, from 1, on which each place of the value begins."""
    lines: list[str] = []
    numbers: Lines = {}

    def write(item: Any, path: inputs.Path, indent: str) -> None:
        steps = list(item) if isinstance(item, dict) else range(len(item))
        for step in steps:
            start = f"{json.dumps(step)}:" if isinstance(item, dict) else "-"
            numbers[(*path, step)] = len(lines) + 1
            if isinstance(item[step], dict | list) and item[step]:
                lines.append(f"{indent}{start}  # a comment")
                write(item[step], (*path, step), indent + "  ")
            else:
                lines.append(f"{indent}{start} {json.dumps(item[step])}")

    write(value, (), "")
    return "\n".join(lines), numbers


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def refusal(file: Path, text: str | bytes) -> tuple[int, str] | None:
    """Line and reason that a file is refused for, in one line of the documented form."""
    file.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        load(file, MACHINE)
    except ConfigError as error:
        said = str(error)
        assert said.isprintable()
        assert len(said) < len(str(file)) + 500
        place = re.fullmatch(rf"{re.escape(str(file))}:([0-9]+): (.+)", said)
        assert place is not None, said
        line = int(place[1])
        raw = file.read_bytes()
        breaks = (
            raw.count(b"\n") + raw.count(b"\r") + raw.count(b"\xc2\x85") + raw.count(b"\xe2\x80")
        )
        assert 1 <= line <= breaks + 1, said
        return line, place[2]
    return None


def loaded(file: Path, text: str) -> AgentConfig:
    file.write_text(text, "utf-8")
    return load(file, MACHINE)


@given(configs(), st.sampled_from([None, 1, 4]))
def test_a_valid_one_is_read_as_it_was_meant(
    file: Path, config: dict[str, Any], indent: int | None
) -> None:
    got = loaded(file, block_style(config)[0])
    assert loaded(file, json.dumps(config, indent=indent)) == got  # JSON is YAML, too
    assert {key: str(getattr(got.agent, key)) for key in config.get("agent", {})} == config.get(
        "agent", {}
    )
    assert [nic.name for nic in got.uplinks] == [nic["name"] for nic in config.get("uplinks", [])]
    for nic, given_nic in zip(got.uplinks, config.get("uplinks", []), strict=True):
        assert nic.queues == given_nic.get("queues", 1)
        assert nic.offloads.tso == given_nic.get("offloads", {}).get("tso", True)
        assert (nic.exception is not None) == ("exception" in given_nic)
    for net, given_net in zip(got.networks, config.get("networks", []), strict=True):
        assert (net.name, net.mtu) == (given_net["name"], given_net.get("mtu", 1500))
        assert (net.uplink, net.vlan) == (given_net.get("uplink"), given_net.get("vlan"))
    for key in ("main_core", "idle", "supervised_by"):
        if key in config.get("dataplane", {}):
            assert getattr(got.dataplane, key) == config["dataplane"][key]


@given(configs().filter(bool), st.data())
def test_a_bad_value_is_named_with_its_line(
    file: Path, config: dict[str, Any], data: st.DataObject
) -> None:
    """Somewhere at the place or below or beside it: a list of one bad item is the item's fault."""
    path = data.draw(st.sampled_from(list(inputs.places(config))))
    bad = data.draw(st.sampled_from(BAD_VALUES))
    if isinstance(bad, list) and path[-1] in ("uplinks", "networks"):
        bad = None  # none of them are fine
    text, numbers = block_style(inputs.replaced(config, path, bad))
    refused = refusal(file, text)
    assert refused is not None
    line, reason = refused
    depth = len(path)
    assert line in {number for at, number in numbers.items() if at[:depth] == path}, reason
    assert reason.startswith(str(path[0]))
    assert all(step in reason for step in path if isinstance(step, str))


@given(configs().filter(bool), st.data())
def test_an_unknown_key_is_named_with_its_line(
    file: Path, config: dict[str, Any], data: st.DataObject
) -> None:
    objects = [path for path in inputs.places(config) if isinstance(value_at(config, path), dict)]
    path = data.draw(st.sampled_from([(), *objects]))
    key = data.draw(st.sampled_from(["sockt", "é", "x y", "vlans", "\u2028", "a" * 200]))
    whole = {"": config}
    spoilt = inputs.replaced(whole, ("", *path), {**value_at(config, path), key: 1})[""]
    text, numbers = block_style(spoilt)
    refused = refusal(file, text)
    assert refused is not None
    line, reason = refused
    assert "unknown key with value 1" in reason
    assert line == numbers[(*path, key)]


def value_at(value: Any, path: inputs.Path) -> Any:
    for step in path:
        value = value[step]
    return value


@given(inputs.spoilt(configs()))
def test_any_object_is_read_or_refused(file: Path, config: Any) -> None:
    refusal(file, json.dumps(config))


@pytest.mark.parametrize("text", inputs.ODD_TEXTS, ids=repr)
def test_odd_text_at_any_place(file: Path, text: str) -> None:
    config = {
        "agent": {"socket": "/a", "state_dir": "/s", "log_level": "info", "metrics": "[::1]:1"},
        "dataplane": {"memory": "512Mi", "idle": "poll", "cores": [1]},
        "uplinks": [{"name": "a", "device": "net_null0", "exception": {"name": "v"}}],
        "networks": [{"name": "n", "uplink": "a", "vlan": 1}],
    }
    for place in inputs.places(config):
        refusal(file, json.dumps(inputs.replaced(config, place, text)))
    refusal(file, json.dumps({**config, text: text}))


@pytest.mark.parametrize(
    "number", [10**17, -(10**4000), "9" * 5000, "9" * 99 + "Ti", "9" * 5000 + ".5Ti"], ids=str
)
def test_an_absurd_number_at_any_place(file: Path, number: int | str) -> None:
    config = {"dataplane": {"memory": 1, "main_core": 1, "cores": [1]}, "networks": [{"mtu": 1}]}
    for place in inputs.places(config):
        spoilt = inputs.replaced(config, place, number)
        assert refusal(file, json.dumps(spoilt)) is not None
    assert refusal(file, f"dataplane: {{memory: {'9' * 5000}}}") is not None


PIECES = (
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "!x ",
    "? ",
    "- ",
    ": ",
    "| ",
    "> ",
    "---\n",
    "...\n",
    "9" * 5000,
)
MORE_PIECES = (
    "%YAML 1.1\n",
    "\t",
    "\x00",
    "\ufeff",
    "\x85",
    "'",
    '"',
    "{",
    "]",
    "#",
    "@",
    "0x",
    "\r",
)


@given(configs(), st.data())
def test_any_change_of_the_text_is_read_or_refused(
    file: Path, config: dict[str, Any], data: st.DataObject
) -> None:
    text, _ = block_style(config)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.sampled_from([0, 0, 1, 5]))
        piece = data.draw(st.sampled_from(PIECES + MORE_PIECES) | inputs.any_text)
        text = text[:at] + piece + text[at + gone :]
    refusal(file, text)


@given(st.binary(max_size=50) | inputs.any_text)
def test_any_file_is_read_or_refused(file: Path, content: str | bytes) -> None:
    refusal(file, content)
