"""The netconf: what each mistake gets, in one line."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.exceptions import ValidationError

from cni_virtio import netconf, schema
from cni_virtio.netconf import parse
from cni_virtio.spec import CniError, Code
from tests.unit.netconfs import MINIMAL, limited, refusal


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"quues": 2}, 'quues: unknown key with value 2; did you mean "queues"?'),
        ({"MTU": 9000}, 'MTU: unknown key with value 9000; did you mean "mtu"?'),
        ({"bridge": "cni0"}, 'bridge: unknown key with value "cni0"'),
        ({"vhostUser": {"backlog": "/x"}}, 'vhostUser.backlog: unknown key with value "/x"'),
        ({"plugins": []}, "plugins: unknown key with value []"),
        ({"a\nb": 1}, r'"a\nb": unknown key with value 1'),
        ({"x" * 900: 1}, f'"{"x" * 76}...: unknown key with value 1'),
        ({"mtu": "big", "zzz": 1}, "zzz: unknown key with value 1"),
    ],
)
def test_an_unknown_key_is_error_2(keys: dict[str, Any], message: str) -> None:
    error = refusal(json.dumps({**MINIMAL, **keys}).encode())
    assert error.code == 2
    assert error.msg == message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": ""}, 'name: "" is not a network name'),
        ({"name": "../x"}, 'name: "../x" is not a network name'),
        ({"name": "x" * 256}, "has more than 255 characters"),
        ({"name": "a b"}, 'name: "a b" is not a network name'),
        ({"name": None}, "name: null is not a string"),
        ({"network": "a/b"}, 'network: "a/b" is not a network name'),
        ({"network": "x" * 65}, "has more than 64 characters"),
        ({"cniVersion": 1}, "cniVersion: 1 is not a string"),
        ({"interface": "veth"}, 'interface: "veth" is not one of "kernel", "vhost-user"'),
        ({"vhostUser": {"mode": "both"}}, 'vhostUser.mode: "both" is not one of'),
        ({"vhostUser": {"uid": -1}}, "vhostUser.uid: -1 is less than the minimum of 0"),
        ({"vhostUser": []}, "vhostUser: [] is not an object"),
        ({"queues": 0}, "queues: 0 is less than the minimum of 1"),
        ({"queues": 257}, "queues: 257 is more than the maximum of 256"),
        ({"queues": True}, "queues: true is not an integer"),
        ({"queues": "4"}, 'queues: "4" is not an integer'),
        ({"queues": 129, "interface": "vhost-user"}, "queues: 129 is more than the maximum of 128"),
        ({"queueSize": 300}, "queueSize: 300 is not a power of two from 64 to 32768"),
        ({"queueSize": 65536}, "queueSize: 65536 is not a power of two"),
        ({"mtu": 67}, "mtu: 67 is less than the minimum of 68"),
        ({"mtu": 65522}, "mtu: 65522 is more than the maximum of 65521"),
        ({"mtu": 1e300}, "is more than the maximum"),
        ({"isGateway": "true"}, 'isGateway: "true" is not true or false'),
        ({"spoofCheck": 1}, "spoofCheck: 1 is not true or false"),
        ({"agentSocket": "agent.sock"}, "agentSocket: "),
        ({"agentSocket": "/" + "x" * 107}, "absolute path of at most 107 bytes"),
        ({"ipam": {"subnet": "10.0.0.0/8"}}, "ipam.type: is missing"),
        ({"ipam": {"type": "../evil"}}, 'ipam.type: "../evil" is not the name of an executable'),
        ({"ipam": {"type": ".."}}, 'ipam.type: ".." is not the name of an executable'),
        ({"ipam": {"type": ""}}, 'ipam.type: "" is not the name of an executable'),
        ({"ipam": []}, "ipam: [] is not an object"),
        ({"capabilities": {"ips": 1}}, "capabilities.ips: 1 is not true or false"),
        ({"runtimeConfig": {"mac": "02:00:00:00:00"}}, "runtimeConfig.mac: "),
        ({"runtimeConfig": {"mac": "01:00:00:00:00:01"}}, "is not the MAC address of one host"),
        ({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}, "is not the MAC address of one host"),
        ({"runtimeConfig": {"mac": "02:00:00:00:00:01\n"}}, "runtimeConfig.mac: "),
        ({"args": {"cni": {"mac": "x"}}}, 'args.cni.mac: "x" is not the MAC address'),
        ({"runtimeConfig": {"ips": ["10.0.0.300"]}}, 'runtimeConfig.ips[0]: "10.0.0.300" is not'),
        ({"runtimeConfig": {"ips": "10.0.0.3"}}, "runtimeConfig.ips: "),
        ({"args": {"cni": {"ips": ["x"]}}}, 'args.cni.ips[0]: "x" is not an IP address'),
        ({"cni.dev/valid-attachments": [{"ifname": "e"}]}, "valid-attachments[0].containerID"),
        ({"prevResult": 3}, "prevResult: 3 is not an object or null"),
        (limited(ingressRate=-1), "ingressRate: -1 is less than the minimum of 0"),
        (limited(ingressRate="1M"), 'runtimeConfig.bandwidth.ingressRate: "1M" is not an integer'),
        (limited(egressRate=10**15 + 1), "egressRate: 1000000000000001 is more than the maximum"),
        (limited(egressRate=999), "egressRate: 999 is neither 0 (no limit) nor at least 1000"),
        (limited(ingressBurst=8000), "bandwidth.ingressBurst: 8000 without ingressRate"),
        (limited(egressRate=10**6, egressBurst=2**36), "egressBurst: 68719476736 is more than"),
        ({"runtimeConfig": {"bandwidth": 1}}, "runtimeConfig.bandwidth: 1 is not an object"),
        ({"bandwidth": {"egressRate": 7}}, "bandwidth.egressRate: 7 is neither 0"),
    ],
)
def test_a_bad_value_is_error_7(keys: dict[str, Any], message: str) -> None:
    error = refusal(json.dumps({**MINIMAL, **keys}).encode())
    assert error.code == 7
    assert message in error.msg
    assert len(error.msg) < 300


@pytest.mark.parametrize("key", ["name", "type"])
def test_a_missing_key_is_error_7(key: str) -> None:
    stdin = json.dumps({k: v for k, v in MINIMAL.items() if k != key}).encode()
    error = refusal(stdin)
    assert (error.code, error.msg) == (7, f"{key}: is missing")


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"{",
        b'{"cniVersion": "1.1.0", "name": "po',
        b"\xff\xfe{}",
        b"[]",
        b"null",
        b'"x"',
        b"[" * 100_000,
        b"9" * 5000,
    ],
)
def test_what_is_no_json_object_is_error_6(stdin: bytes) -> None:
    error = refusal(stdin)
    assert error.code == 6
    assert error.msg.startswith("netconf on stdin: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", "NaN is not a number of JSON"),
        ("-Infinity", "-Infinity is not a number of JSON"),
        ("1e999", "1e999 is too large a number"),
        (r'"\ud800"', r"\ud800 is half a character"),
        (r'{"\udc00x": 1}', r"\udc00 is half a character"),
    ],
)
def test_what_only_python_takes_for_json_is_error_6(text: str, said: str) -> None:
    """An IPAM plugin gets the configuration as it came, and files are named by parts of it."""
    stdin = json.dumps({**MINIMAL, "ipam": {"type": "x", "y": 0}}).replace("0}", text + "}")
    error = refusal(stdin.encode())
    assert error.code == 6
    assert said in error.msg


def test_a_megabyte_of_mistakes_is_not_described_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    described = []

    def counted(error: ValidationError) -> schema.Problem:
        described.append(error)
        return describe(error)

    describe = schema._describe
    monkeypatch.setattr(schema, "_describe", counted)
    error = refusal(json.dumps({**MINIMAL, "x": 1, "dns": {"search": [1] * 200_000}}).encode())
    assert (error.code, error.msg) == (2, "x: unknown key with value 1")
    assert len(described) <= 100


def test_a_value_is_shown_on_one_line_that_can_be_printed() -> None:
    error = refusal(json.dumps({**MINIMAL, "interface": "a\x7f\x00\u2028"}).encode())
    assert error.msg.isprintable()


@pytest.mark.parametrize("depth", [66, 500, 900, 990, 100_000])
def test_deep_nesting_is_error_6(depth: int) -> None:
    head = json.dumps(MINIMAL)[:-1].encode()
    error = refusal(head + b', "args": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}")
    assert (error.code, error.msg) == (6, "netconf on stdin: nested more than 64 levels deep")
    assert parse(head + b', "args": ' + b'{"a":' * 63 + b"1" + b"}" * 64).raw


def test_a_bad_prev_result_is_error_6() -> None:
    stdin = json.dumps({**MINIMAL, "prevResult": {"ips": [{"address": 4}]}}).encode()
    error = refusal(stdin)
    assert (error.code, error.msg) == (6, "prevResult.ips[0].address: 4 is not a string")


@pytest.mark.parametrize("version", ["0.2.0", "2.0.0", "1.1", "", "x"])
def test_an_unsupported_version_is_error_1(version: str) -> None:
    error = refusal(json.dumps({**MINIMAL, "cniVersion": version, "unknown": 1}).encode())
    assert error.code == 1
    assert json.dumps(version) in error.msg
    assert "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in error.msg


def test_without_a_version_it_is_the_first_one_which_is_unsupported() -> None:
    assert refusal(b'{"name": "pods", "type": "x"}').code == 1


@pytest.mark.parametrize("args", [{"MAC": "x"}, {"MAC": "01:00:5e:00:00:01"}, {"IP": "1.2"}])
def test_a_bad_address_in_cni_args_is_error_4(args: dict[str, str]) -> None:
    error = refusal(json.dumps(MINIMAL).encode(), args)
    assert error.code == Code.INVALID_ENVIRONMENT
    assert error.msg.startswith("CNI_ARGS: ")
    assert next(iter(args.values())) in error.msg


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


KEYS = st.sampled_from(sorted(netconf.SCHEMA.data["properties"])) | st.text()


@given(st.dictionaries(KEYS, VALUES))
def test_arbitrary_values_are_accepted_or_refused_in_one_line(keys: dict[str, Any]) -> None:
    refused = None
    try:
        got = parse(json.dumps({**MINIMAL, **keys}).encode())
    except CniError as error:
        refused = error
    if refused:
        assert refused.code in (1, 2, 4, 6, 7)
        assert "\n" not in refused.msg
    else:
        assert isinstance(got.queues, int)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(stdin: bytes) -> None:
    with pytest.raises(CniError):
        parse(stdin)
