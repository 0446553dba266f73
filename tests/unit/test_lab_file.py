"""Lab files: what they mean, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni_virtio import ctl
from cni_virtio.config import ConfigError
from cni_virtio.ctl.lab.attachments import Attachment, AttachmentStore
from cni_virtio.ctl.lab.config import address_range, agent_yaml, netconf
from cni_virtio.ctl.lab.file import load, parse, parse_container
from cni_virtio.ctl.lab.paths import LabPaths
from cni_virtio.ctl.lab.store import load as load_stored
from cni_virtio.ctl.lab.store import save

EXAMPLES = Path(ctl.__file__).parent
WHOLE = """\
name: demo
agent: {log_level: debug}
dataplane: {memory: 256Mi, cores: [0]}
uplinks:
  - name: wire0
    queues: 1
    outside:
      addresses: [10.88.0.250/24]
      routes: [{dst: 10.9.0.0/16, gw: 10.88.0.1}]
networks:
  - {name: pods, uplink: wire0, mtu: 1400, subnets: [10.88.0.0/24, "fd88::/64"], gateway: true}
  - {name: side, spoofCheck: false}
containers:
  - {name: c1, network: pods, queues: 2, netconf: {ipMasq: true, mtu: 1300}}
  - name: c2
    interfaces:
      - {network: pods}
      - {network: side, ifname: net1}
  - name: app
    kind: vhost-user
    network: pods
    mode: server
    command: testpmd --vdev=x,path={socket},mac={mac} --eth-peer=0,{c1.mac} -- {core}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "lab.yaml"
    file.write_text(text)
    return file


def test_whole_file(tmp_path: Path) -> None:
    spec = load(write(tmp_path, WHOLE))
    assert [c.name for c in spec.containers] == ["c1", "c2", "app"]
    assert spec.uplinks[0].kind == "af_xdp"
    assert spec.uplinks[0].routes[0].gw == "10.88.0.1"
    assert [i.ifname for i in spec.containers[1].interfaces] == ["eth0", "net1"]
    assert spec.containers[2].command[1] == "--vdev=x,path={socket},mac={mac}"
    assert spec.containers[2].interfaces[0].mode == "server"


def test_netconf_of_each_container(tmp_path: Path) -> None:
    spec = load(write(tmp_path, WHOLE))
    paths = LabPaths(Path("/run/lab"))
    made = netconf(spec, paths, spec.containers[0], spec.containers[0].interfaces[0])
    assert made["isDefaultGateway"] is True
    assert made["queues"] == 2
    assert (made["ipMasq"], made["mtu"]) == (True, 1300)
    assert made["ipam"]["ranges"][0] == [
        {"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.1", "rangeEnd": "10.88.0.249"}
    ]
    side = netconf(spec, paths, spec.containers[1], spec.containers[1].interfaces[1])
    assert "ipam" not in side
    assert side["spoofCheck"] is False
    app = netconf(spec, paths, spec.containers[2], spec.containers[2].interfaces[0])
    assert (app["interface"], app["vhostUser"]) == ("vhost-user", {"mode": "server"})


def test_agent_yaml_is_accepted_by_the_agent(tmp_path: Path) -> None:
    from cni_virtio.config_yaml import YamlFile
    from cni_virtio.schema import Schema

    spec = load(write(tmp_path, WHOLE))
    file = tmp_path / "agent.yaml"
    file.write_text(agent_yaml(spec, LabPaths(Path("/run/lab"))))
    data = YamlFile(file).data
    assert Schema("agent").problem(data) is None
    assert data["uplinks"][0]["device"] == "af_xdp:wire0"
    assert data["dataplane"]["memory"] == "256Mi"


def test_an_uplinks_twin_is_the_agents_to_make_and_is_stored(tmp_path: Path) -> None:
    exception = {"name": "twin0", "queue_size": 512}
    twin = f"    exception: {json.dumps(exception)}\n    outside:"
    spec = load(write(tmp_path, WHOLE.replace("    outside:", twin)))
    paths = LabPaths(tmp_path / "lab")
    assert json.loads(agent_yaml(spec, paths))["uplinks"][0]["exception"] == exception
    paths.root.mkdir()
    save(spec, paths)
    assert load_stored(paths.root) == spec


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_that_come_along(file: Path) -> None:
    assert load(file).containers


def test_stored_spec_reads_back(tmp_path: Path) -> None:
    spec = load(write(tmp_path, WHOLE))
    paths = LabPaths(tmp_path / "lab")
    paths.root.mkdir()
    save(spec, paths)
    assert load_stored(paths.root) == spec


def test_half_made_lab_still_has_a_name(tmp_path: Path) -> None:
    assert load_stored(tmp_path).name == tmp_path.name


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("queues: 1\n", "quues: 1\n", 6, "uplinks[0].quues: unknown key"),
        ("queues: 1\n", "queues: 2\n", 6, "uplinks[0].queues: 2: DPDK drives one queue"),
        ("name: wire0", "name: host", 5, 'uplinks[0].name: "host" is the namespace'),
        ("name: c2", "name: wire0", 14, 'containers[1].name: "wire0" is the name of another'),
        ("name: c2", "name: c1", 14, 'containers[1].name: "c1" is the name of containers[0]'),
        ("uplink: wire0", "uplink: wire1", 11, 'did you mean "wire0"?'),
        ("network: side", "network: site", 17, 'interfaces[1].network: "site" is not a network'),
        ("ifname: net1", "ifname: eth0", 17, '"eth0" is the name of another interface'),
        ("{socket}", "{soket}", 22, "containers[2].command: {soket} is not a placeholder"),
        ("{c1.mac}", "{c9.mac}", 22, "{c9.mac} is not a placeholder"),
        ("{core}", "{core", 22, "containers[2].command"),
        ("memory: 256Mi", "memory: lots", 3, "dataplane.memory"),
        ("cores: [0]", "socket: /x", 3, "dataplane.socket: is chosen by the lab"),
        ("10.88.0.250/24", "10.88.0.256/24", 8, "uplinks[0].outside.addresses[0]"),
        ("10.88.0.0/24,", "10.88.0.1/24,", 11, "networks[0].subnets[0]"),
        ("mode: server", "mode: both", 21, "containers[2].mode"),
        ("queues: 2, netconf", "mode: client, netconf", 14, "containers[0].mode: is for"),
        ("network: pods, queues", "queues", 14, "containers[0].network: is missing"),
        ("{name: side, ", "{name: side, vlan: 5, ", 12, "networks[1].vlan: 5 needs an uplink"),
        ("{name: side, ", "{name: side, gateway: true, ", 12, "networks[1].gateway: needs"),
    ],
)
def test_wrong_files(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in WHOLE
    file = write(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        load(file)
    message = str(error.value)
    assert reason in message
    assert "\n" not in message
    assert message.startswith(f"{file}:")
    assert abs(int(message.split(":")[1]) - line) <= 1


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("reserved", "first", "last"),
    [
        (["10.0.0.1/24"], "10.0.0.2", "10.0.0.254"),
        (["10.0.0.100/24", "10.0.0.200/24"], "10.0.0.1", "10.0.0.99"),
        (["10.0.0.254/24", "fd00::1/64"], "10.0.0.1", "10.0.0.253"),
    ],
)
def test_range_avoids_reserved(reserved: list[str], first: str, last: str) -> None:
    found = address_range("10.0.0.0/24", reserved)
    assert (found["rangeStart"], found["rangeEnd"]) == (first, last)


def test_range_of_free_subnet_is_the_plugins_choice() -> None:
    assert address_range("fd00::/64", ["10.0.0.1/24"]) == {"subnet": "fd00::/64"}


def test_container_added_later() -> None:
    spec = parse({"name": "x", "networks": [{"name": "pods"}], "containers": []})
    made = parse_container({"name": "late", "network": "pods"}, spec)
    assert made.interfaces[0].ifname == "eth0"
    with pytest.raises(ConfigError, match="not a network"):
        parse_container({"name": "late", "network": "pod"}, spec)


def test_attachments_survive_the_process(tmp_path: Path) -> None:
    result = {
        "interfaces": [
            {"name": "host0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:0a", "sandbox": "/run/netns/x-c1"},
        ],
        "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1}],
    }
    made = Attachment("c1", "x-c1", "/run/netns/x-c1", "eth0", {"name": "pods"}, {}, result)
    store = AttachmentStore(tmp_path)
    store.save(made)
    (found,) = store.load()
    assert found == made
    assert (found.mac, found.ips, found.gateways) == (
        "02:00:00:00:00:0a",
        ["10.0.0.5"],
        ["10.0.0.1"],
    )
    store.delete(found)
    assert store.load() == []
