"""The agent's YAML: what is accepted, and the one line that each mistake gets."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_virtio.backend import Backend
from cni_virtio.config import (
    SCHEMA,
    AgentConfig,
    ConfigError,
    ExceptionPath,
    NetworkSection,
    Offloads,
    load,
)
from cni_virtio.config_checks import Machine

FULL = """\
agent:
  socket: /run/cni-virtio/agent.sock
  state_dir: /run/cni-virtio/state     # a comment
  socket_dir: /run/cni-virtio/vhost
  log_level: info
dataplane:
  socket: /run/cni-virtio/dataplane.sock
  main_core: 0
  cores: [1]
  memory: 512Mi
  idle: adaptive
  backend: auto
uplinks:
  - name: wire0
    device: "0000:3b:00.0"
    queues: 2
    queue_size: 1024
    offloads: {rx_checksum: true, tx_checksum: true, tso: true, lro: false}
    exception:
      name: virtio_user0
      queues: 2
networks:
  - name: pods
    uplink: wire0
    vlan: 100
    mtu: 1500
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
TWO_TWINS = """\
uplinks:
- {name: a, device: net_tap0, exception: {name: x}}
- {name: b, device: net_tap1, exception: {name: x}}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    devices = tmp_path / "pci"
    device(devices, "0000:3b:00.0", "vfio-pci")
    device(devices, "0000:3b:00.1", "uio_pci_generic")
    device(devices, "0000:00:03.0", "e1000e", "ens3")
    device(devices, "0000:00:04.0", None)
    device(devices, "0000:00:05.0", "vfio-pci", class_="0x010000")
    put_in_group(devices / "0000:3b:00.0", tmp_path / "7")
    return Machine(
        frozenset({0, 1, 2, 3}), frozenset({0, 1, 2}), 8 << 30, devices, tmp_path / "vhost-net"
    )


def device(
    devices: Path,
    address: str,
    driver: str | None,
    *interfaces: str,
    class_: str = "0x020000",
) -> None:
    """Make a PCI device as sysfs shows it."""
    folder = devices / address
    folder.mkdir(parents=True)
    (folder / "class").write_text(f"{class_}\n")
    if driver is not None:
        (devices / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(devices / "drivers" / driver)
    for interface in interfaces:
        (folder / "net" / interface).mkdir(parents=True)


def put_in_group(device: Path, group: Path) -> None:
    """Put it in an IOMMU group, to which VFIO gives a name where it only stands for one."""
    group.mkdir()
    (device / "iommu_group").symlink_to(group)
    if not group.name.isdigit():
        (group / "name").write_text(f"{group.name}\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def read(file: Path, text: str, machine: Machine) -> AgentConfig:
    file.write_text(text, "utf-8")
    return load(file, machine)


def refusal(file: Path, text: str | bytes, machine: Machine) -> str:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(file, machine)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}:")
    return message.removeprefix(f"{file}:")


def test_the_example_of_the_contract(file: Path, machine: Machine) -> None:
    got = read(file, FULL, machine)
    assert got.agent.socket == Path("/run/cni-virtio/agent.sock")
    assert got.dataplane.cores == (1,)
    assert got.dataplane.memory_bytes == 512 << 20
    uplink = got.uplinks[0]
    assert (uplink.name, uplink.kind, uplink.target) == ("wire0", "pci", "0000:3b:00.0")
    assert uplink.offloads == Offloads(lro=False)
    assert uplink.exception == ExceptionPath("virtio_user0", 2)
    assert got.networks == (NetworkSection("pods", "wire0", 100, 1500),)
    assert got.messages == ()


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n", "---\n", "agent: {}\n"])
def test_every_key_is_optional(text: str, file: Path, machine: Machine) -> None:
    got = read(file, text, machine)
    assert got.agent.state_dir == Path("/run/cni-virtio/state")
    assert (got.dataplane.main_core, got.dataplane.cores) == (0, (1,))
    assert (got.dataplane.idle, got.dataplane.backend) == ("adaptive", "auto")
    assert (got.uplinks, got.networks, got.messages) == ((), (), ())


def test_defaults_of_items(file: Path, machine: Machine) -> None:
    text = """
uplinks:
  - {name: a, device: 'af_packet:lo'}
  - {name: b, device: '3B:00.1', exception: {}}
  - {name: c, device: 'net_tap0,iface=t0'}
networks: [{name: n}]
"""
    got = read(file, text, machine)
    assert [uplink.kind for uplink in got.uplinks] == ["af_packet", "pci", "vdev"]
    assert [uplink.target for uplink in got.uplinks] == ["lo", "0000:3b:00.1", "net_tap0,iface=t0"]
    assert got.uplinks[0].offloads == Offloads()
    assert (got.uplinks[0].exception, got.uplinks[0].queue_size) == (None, 1024)
    assert got.uplinks[1].exception == ExceptionPath("virtio_user1", 1)
    assert got.networks == (NetworkSection("n", None, None, 1500),)


def test_auto_takes_every_nic_that_dpdk_can_have_with_a_twin(file: Path, machine: Machine) -> None:
    got = read(file, "uplinks: auto\nnetworks: [{name: n, uplink: wire1}]\n", machine)
    assert [(u.name, u.kind, u.target, u.exception) for u in got.uplinks] == [
        ("wire0", "pci", "0000:3b:00.0", ExceptionPath("virtio_user0")),
        ("wire1", "pci", "0000:3b:00.1", ExceptionPath("virtio_user1")),
    ]
    assert got.messages == ()
    bare = replace(machine, pci_devices=machine.pci_devices / "none")
    got = read(file, "uplinks: auto\n", bare)
    assert got.uplinks == ()
    assert "no PCI network device is bound to vfio-pci" in got.messages[0]


@pytest.mark.parametrize("group", ["", "vfio-noiommu"])
@pytest.mark.parametrize("uplinks", ["auto", "[{name: a, device: '00:02.0'}]"])
def test_a_nic_without_an_iommu_is_refused(
    file: Path, machine: Machine, uplinks: str, group: str
) -> None:
    device(machine.pci_devices, "0000:00:02.0", "vfio-pci")
    if group:
        put_in_group(machine.pci_devices / "0000:00:02.0", file.parent / group)
    message = refusal(file, f"uplinks: {uplinks}\n", machine)
    assert message.startswith("1: uplinks[0].device: ")
    assert "00:02.0\" is in no IOMMU group, and VFIO's no-IOMMU mode will not do" in message
    assert "intel_iommu=on" in message


def test_the_backend_is_decided_with_its_reason(file: Path, machine: Machine) -> None:
    missing = f"vhost-net: {machine.vhost_net} is missing: modprobe vhost_net"
    assert read(file, "", machine).backend == Backend("tap", missing)
    assert read(file, "dataplane: {backend: tap}\n", machine).backend == Backend("tap")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agents: {}\n", '1: agents: unknown key with value {}; did you mean "agent"?'),
        (
            "agent:\n  log_level: info\n  sockt: /x\n",
            '3: agent.sockt: unknown key with value "/x"; did you mean "socket"?',
        ),
        (
            FULL.replace("    queues: 2", "    qeues: 2", 1),
            '16: uplinks[0].qeues: unknown key with value 2; did you mean "queues"?',
        ),
        (
            "uplinks:\n- {name: a, device: x, offloads: {tos: true}}\n",
            "2: uplinks[0].offloads.tos: unknown key",
        ),
        ("- a\n", '1: ["a"] is not an object'),
        ("hello\n", '1: "hello" is not an object'),
        ("agent: no\n", '1: agent: "no" is not an object'),
        ("agent:\n  log_level: loud\n", '2: agent.log_level: "loud" is not one of "debug"'),
        ("agent: {socket: agent.sock}\n", '1: agent.socket: "agent.sock" is not an absolute path'),
        ("agent:\n  state_dir:\n", "2: agent.state_dir: null is not a string"),
        ("agent: {socket_dir: /run/" + "x" * 60 + "}\n", "1: agent.socket_dir: has 65 bytes"),
        ("agent: {socket: /a}\ndataplane: {socket: /a}\n", "2: dataplane.socket: "),
        ("agent:\n  metrics: ':9477'\n", "2: agent.metrics: ':9477': '' is not an IP address"),
        ("dataplane:\n  cores: 1\n", "2: dataplane.cores: 1 is not a list"),
        ("dataplane:\n  cores: []\n", "2: dataplane.cores: [] is empty"),
        (
            "dataplane:\n  cores:\n  - 1\n  - 9\n",
            "4: dataplane.cores[1]: core 9 does not exist or is offline; online are 0-3",
        ),
        ("dataplane: {cores: [1, 1]}\n", "1: dataplane.cores: [1, 1] has one item more than once"),
        ("dataplane: {cores: [one]}\n", '1: dataplane.cores[0]: "one" is not an integer'),
        ("dataplane: {main_core: -1}\n", "1: dataplane.main_core: -1 is less than the minimum"),
        (
            "dataplane: {main_core: 3}\n",
            "1: dataplane.main_core: core 3 is not open to this process (cpuset); open are 0-2",
        ),
        ("dataplane: {memory: lots}\n", '1: dataplane.memory: "lots" is not a size in bytes'),
        ("dataplane: {memory: 1Mi}\n", "1: dataplane.memory: 1048576 bytes are less than"),
        ("dataplane: {memory: 9Gi}\n", "9216Mi are more than this machine has (8192Mi)"),
        ("dataplane: {idle: lazy}\n", '1: dataplane.idle: "lazy" is not one of'),
        ("dataplane: {backend: vhost}\n", '1: dataplane.backend: "vhost" is not one of'),
        ("uplinks: some\n", '1: uplinks: "some" is not "auto"'),
        ("uplinks: {}\n", "1: uplinks: {} is not a list"),
        ("uplinks:\n- name: a\n", "2: uplinks[0].device: is missing"),
        ("uplinks:\n- {name: a, device: af_packet:lo, queues: 0}\n", "2: uplinks[0].queues: 0 is"),
        ("uplinks:\n- {name: 'a b', device: x}\n", '2: uplinks[0].name: "a b" is not a name'),
        ("uplinks:\n- {name: a, device: eth1}\n", '2: uplinks[0].device: "eth1" is not a PCI'),
        ("uplinks:\n- {name: a, device: 'af_xdp:'}\n", '"af_xdp:" is not a PCI address'),
        (
            "uplinks:\n- {name: a, device: 'af_xdp:nonesuch0'}\n",
            '2: uplinks[0].device: "af_xdp:nonesuch0": there is no interface "nonesuch0"',
        ),
        (
            "uplinks:\n- {name: a, device: '0000:ff:1f.7'}\n",
            '2: uplinks[0].device: "0000:ff:1f.7": there is no PCI device 0000:ff:1f.7',
        ),
        (
            "uplinks:\n- {name: a, device: '00:03.0'}\n",
            '"00:03.0" is in use by driver e1000e (interface ens3): cni-virtioctl uplink bind 00',
        ),
        (
            "uplinks:\n- {name: a, device: '0000:00:04.0'}\n",
            '"0000:00:04.0" has no driver: cni-virtioctl uplink bind 0000:00:04.0',
        ),
        (
            "dataplane:\n  backend: vhost-net\n",
            '2: dataplane.backend: "vhost-net": ',
        ),
        (
            "uplinks:\n- name: a\n  device: net_tap0\n  exception: {queues: 65}\n",
            "4: uplinks[0].exception.queues: 65 is more than the maximum of 64 on tap",
        ),
        (
            "uplinks: [{name: a, device: net_tap0, exception: {queue_size: 100}}]\n",
            "1: uplinks[0].exception.queue_size: 100 is not a power of two from 64 to 32768",
        ),
        (
            "uplinks:\n- {name: a, device: '0000:3b:00.0'}\n- {name: b, device: '3b:00.0'}\n",
            '3: uplinks[1].device: "0000:3b:00.0" is the device of uplinks[0] already',
        ),
        (
            "uplinks:\n- {name: a, device: net_tap0}\n- {name: a, device: net_tap1}\n",
            '3: uplinks[1].name: "a" is the name of uplinks[0] already',
        ),
        (
            TWO_TWINS,
            '3: uplinks[1].exception.name: "x" is the exception.name of uplinks[0] already',
        ),
        ("uplinks: [{name: a, device: net_tap0, exception: {name: a/b}}]\n", "exception.name: "),
        (
            "uplinks:\n- {name: a, device: net_tap0, exception: {name: ééééééééé}}\n",
            "2: uplinks[0].exception.name: 'ééééééééé' has 18 bytes, allowed are 1 to 15",
        ),
        (
            "networks:\n- {name: pods}\n- {name: pods}\n",
            '3: networks[1].name: "pods" is the name of networks[0] already',
        ),
        (
            FULL.replace("uplink: wire0", "uplink: wire"),
            '24: networks[0].uplink: "wire" is not an uplink; uplinks are wire0; did you mean',
        ),
        ("networks: [{name: a, uplink: b}]\n", '"b" is not an uplink; no uplinks are declared'),
        ("networks: [{name: a, vlan: 5}]\n", "1: networks[0].vlan: 5 needs an uplink"),
        ("networks: [{name: a, vlan: 4095}]\n", "4095 is more than the maximum of 4094"),
        ("networks: [{name: a, mtu: 1500.5}]\n", "mtu: 1500.5 is not an integer"),
        (
            FULL + "  - {name: more, uplink: wire0, vlan: 100}\n",
            "27: networks[1].vlan: uplink wire0 carries network pods with vlan 100 already",
        ),
        ("a: 1\na: 2\n", '2: found duplicate key "a"'),
        ("agent: {\n", "2: "),
        ("agent:\n\tsocket: x\n", "2: found character '\\t'"),
        ("a: &x [*y]\n", "1: found undefined alias"),
        ("b: 1\na: &x\n  <<: *x\n  c: 1\n", "4: cannot be understood: "),
        ("&x\na: 1\nb: *x\n", "3: has an alias inside of what it stands for"),
        (LAUGHS, "1: has more than 100000 values once its aliases are expanded"),
        ("1: 2\n", "1: key 1 is not a string"),
        ("a: !!python/object:os.system {}\n", "1: "),
        ("agent: !thing x\n", "1: "),
        ("a: 1\n---\nb: 2\n", "2: "),
        ("a: 1\nb: \x00\n", "2: character U+0000 is not allowed"),
        ("a: 1\nb:\n- " + "9" * 5000, "3: cannot be understood: Exceeds the limit"),
        ("# a\n%YAML 1.3\n---\n", "2: "),
        ('agent:\n  socket: "/\\ud800"\n', r"2: \ud800 is half a character"),
        ('agent:\n  "\\udc00": 1\n', r"2: \udc00 is half a character"),
        ('a: "\\e[2J"\n"a": "\\e"\n', r'2: found duplicate key "a" with value "\x1b"'),
        ('dataplane: {memory: "' + "9" * 5000 + '"}\n', "is more than any machine has"),
        ("agent: {metrics: " + "9" * 5000 + "a}\n", "is not ADDRESS:PORT"),
        ("? " + "k" * 100 + "\n: 1\n? [" + "k" * 5000 + "]\n", "3: key "),
        ('uplinks: [{name: a, device: "af_packet:a\\0b"}]\n', "there is no interface"),
        (b"agent:\n  socket: \xff\n", "2: byte 0xff is not UTF-8"),
        ("a: 1\nb:\n" + "[" * 1000, "3: nested too deeply"),
        ("#" * ((1 << 20) + 1), " is larger than 1048576 bytes"),
    ],
)
def test_a_mistake_gets_one_line(
    text: str | bytes, message: str, file: Path, machine: Machine
) -> None:
    said = refusal(file, text, machine)
    assert message in said
    assert said.isprintable()
    assert len(said) < 500


def test_a_file_that_cannot_be_read(tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", machine)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, machine)


def test_default_cores_are_those_that_the_machine_has(file: Path) -> None:
    one = Machine(frozenset({0}), frozenset({0}), 8 << 30)
    got = read(file, "", one)
    assert (got.dataplane.main_core, got.dataplane.cores) == (0, (0,))
    assert "share core 0" in got.messages[0]
    pinned = Machine(frozenset(range(8)), frozenset({4, 6}), 8 << 30)
    got = read(file, "", pinned)
    assert (got.dataplane.main_core, got.dataplane.cores) == (4, (6,))
    got = read(file, "dataplane: {main_core: 6}\n", pinned)
    assert got.dataplane.cores == (4,)


def test_a_shared_core_is_allowed_and_said_once(file: Path, machine: Machine) -> None:
    got = read(file, "dataplane: {main_core: 1, cores: [1, 2]}\n", machine)
    assert got.dataplane.cores == (1, 2)
    assert len(got.messages) == 1


def test_yaml_of_every_style(file: Path, machine: Machine) -> None:
    text = """
x-base: &base {mtu: 1400}
"""
    assert "unknown key" in refusal(file, text, machine)
    anchored = """
networks:
  - &first {name: a, mtu: &m 9000}
  - <<: *first
    name: b
  - {name: "c", mtu: *m}
  - {name: d, mtu: 0x5dc}
dataplane: {memory: 268435456, backend: 'tap'}
"""
    got = read(file, anchored, machine)
    assert [network.mtu for network in got.networks] == [9000, 9000, 9000, 1500]
    assert [type(network.mtu) for network in got.networks] == [int] * 4
    assert got.dataplane.memory_bytes == 256 << 20
    unquoted = "uplinks:\n- name: a\n  device: 0000:3b:00.0\n"
    assert read(file, unquoted, machine).uplinks[0].target == "0000:3b:00.0"


def test_this_machine() -> None:
    here = Machine.here()
    assert here.allowed_cores <= here.online_cores
    assert here.memory_bytes > 1 << 20


def test_every_key_of_the_schemas_is_described() -> None:
    def check(schema: dict[str, object], place: str) -> None:
        for key, sub in dict(schema.get("properties", {})).items():  # type: ignore[call-overload]
            assert sub.get("description"), f"{place}.{key}"
            check(sub, f"{place}.{key}")
            check(sub.get("items", {}), f"{place}.{key}[]")

    check(SCHEMA.data, "")


@given(st.text(alphabet="abe:{}[]-,#&*!|>'\"% \n\t01?", max_size=60))
def test_arbitrary_text_is_read_or_refused_in_one_line(
    file: Path, machine: Machine, text: str
) -> None:
    file.write_text(text, "utf-8")
    message = ""
    try:
        load(file, machine)
    except ConfigError as error:
        message = str(error)
    assert "\n" not in message
