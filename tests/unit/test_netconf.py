"""The netconf: what is accepted, with which defaults, and what each mistake gets."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.exceptions import ValidationError

from cni_virtio import netconf, schema
from cni_virtio.netconf import NetConf, VhostUser, parse, reply_version
from cni_virtio.spec import CniError, Code
from dataplane.limits import Limits

MINIMAL = {"cniVersion": "1.1.0", "name": "pods", "type": "cni-virtio"}
FROM_THE_CONTRACT = {
    **MINIMAL,
    "agentSocket": "/run/cni-virtio/agent.sock",
    "network": "pods",
    "interface": "kernel",
    "queues": 1,
    "queueSize": 256,
    "mtu": 1500,
    "isGateway": True,
    "isDefaultGateway": True,
    "ipMasq": False,
    "spoofCheck": True,
    "vhostUser": {"mode": "client"},
    "capabilities": {
        "ips": True,
        "mac": True,
        "bandwidth": True,
        "portMappings": True,
        "CNIDeviceInfoFile": True,
        "deviceID": True,
    },
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]]},
}
PREV_RESULT = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}],
    "ips": [{"address": "10.88.0.5/16", "interface": 0}],
}


def conf(**keys: Any) -> NetConf:
    return parse(json.dumps({**MINIMAL, **keys}).encode())


def refusal(stdin: bytes, args: dict[str, str] | None = None) -> CniError:
    with pytest.raises(CniError) as caught:
        parse(stdin, args)
    assert "\n" not in caught.value.msg
    return caught.value


def test_defaults() -> None:
    got = conf()
    assert got == NetConf("1.1.0", "pods", "cni-virtio", "pods", raw=MINIMAL)
    assert got.queues == 1
    assert got.spoof_check
    assert got.vhost_user == VhostUser("client", 0, 0)


def test_the_schema_and_the_dataclass_have_the_same_defaults() -> None:
    """NetConf(...) made by hand must mean what an empty configuration means."""
    properties = netconf.SCHEMA.data["properties"]
    by_hand = NetConf("1.1.0", "pods", "cni-virtio", "pods")
    assert by_hand.agent_socket == properties["agentSocket"]["default"]
    assert by_hand.queue_size == properties["queueSize"]["default"]


def test_the_example_of_the_contract() -> None:
    got = parse(json.dumps(FROM_THE_CONTRACT).encode())
    assert (got.mtu, got.is_gateway, got.is_default_gateway) == (1500, True, True)
    assert got.ipam_type == "host-local"
    assert got.raw == FROM_THE_CONTRACT


def test_a_default_gateway_is_a_gateway() -> None:
    assert conf(isDefaultGateway=True).is_gateway
    assert not conf(isGateway=True).is_default_gateway


def test_what_one_call_says_is_not_remembered() -> None:
    def remembered(**keys: object) -> int:
        before = netconf._checked.cache_info().currsize
        conf(mtu=1400, **keys)
        return netconf._checked.cache_info().currsize - before

    netconf._checked.cache_clear()
    assert remembered() == 1
    assert remembered(prevResult={"cniVersion": "1.1.0"}) == 0
    assert remembered(**{"cni.dev/valid-attachments": []}) == 0
    assert remembered(args={"large": "x" * 4096}) == 0
    assert remembered() == 0  # it is there already


def test_vhost_user() -> None:
    got = conf(interface="vhost-user", vhostUser={"mode": "server", "uid": 1000, "gid": 27})
    assert got.interface == "vhost-user"
    assert got.vhost_user == VhostUser("server", 1000, 27)


def limited(**bandwidth: object) -> dict[str, Any]:
    return {"runtimeConfig": {"bandwidth": bandwidth}}


NOT_GIVEN_BY_KUBELET, NOT_GIVEN_BY_CONTAINERD = 2**31 - 1, 2**32 - 1


@pytest.mark.parametrize(
    ("bandwidth", "limits"),
    [
        ({}, Limits()),
        ({"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}, Limits()),
        ({"ingressRate": 0, "ingressBurst": NOT_GIVEN_BY_CONTAINERD}, Limits()),
        ({"ingressRate": 10**8, "ingressBurst": 10**7}, Limits(10**8, 10**7)),
        ({"egressRate": 10**8, "egressBurst": 10**7}, Limits(0, 0, 10**8, 10**7)),
        ({"ingressRate": 10**8}, Limits(10**8, 2 * 10**6)),
        ({"ingressRate": 10**8, "ingressBurst": NOT_GIVEN_BY_KUBELET}, Limits(10**8, 2 * 10**6)),
        ({"ingressRate": 10**8, "ingressBurst": NOT_GIVEN_BY_CONTAINERD}, Limits(10**8, 2 * 10**6)),
        ({"ingressRate": 10**6}, Limits(10**6, 32 * 1024 * 8)),
        # Too little to be held: the example of the conventions is one of them.
        ({"ingressRate": 2048, "ingressBurst": 1600}, Limits(2048, 4096 * 8)),
        ({"ingressRate": 10**9, "ingressBurst": 1600}, Limits(10**9, 4 * 10**6)),
        ({"ingressRate": 1e8}, Limits(10**8, 2 * 10**6)),
        ({"ingressRate": 10**15}, Limits(10**15, 8 * (2**32 - 1))),
    ],
)
def test_bandwidth(bandwidth: dict[str, Any], limits: Limits) -> None:
    assert conf(**limited(**bandwidth)).limits == limits
    assert conf(bandwidth=bandwidth).limits == limits


def test_containerd_s_spelling_of_what_it_passes_is_taken() -> None:
    runtime = {
        "bandwidth": {"IngressRate": 8 * 10**6, "EgressRate": 0, "EgressBurst": 0},
        "dns": {"Servers": ["10.0.0.9"], "Searches": None, "Options": None},
    }
    got = conf(runtimeConfig=runtime)
    assert got.limits == conf(runtimeConfig={"bandwidth": {"ingressRate": 8 * 10**6}}).limits
    assert got.dns.nameservers == ("10.0.0.9",)
    assert got.raw["runtimeConfig"] == runtime  # other plugins get it as it came


def test_what_the_runtime_passes_comes_before_the_netconfs_bandwidth() -> None:
    assert not conf(bandwidth={"ingressRate": 10**6}, **limited()).limits


def test_an_unknown_key_of_bandwidth_is_error_2() -> None:
    error = refusal(json.dumps({**MINIMAL, **limited(rate=1)}).encode())
    assert error.code == 2
    assert error.msg.startswith("runtimeConfig.bandwidth.rate: unknown key with value 1")


@pytest.mark.parametrize("ipam", [{}, None])
def test_without_ipam_it_is_layer_2_only(ipam: object) -> None:
    assert (conf(ipam=ipam) if ipam is not None else conf()).ipam_type is None


def test_what_runtimes_and_multus_inject_passes() -> None:
    got = conf(
        runtimeConfig={
            "mac": "02:00:00:00:00:AA",
            "ips": ["10.88.0.7/16", "fd00::7"],
            "CNIDeviceInfoFile": "/var/run/k8s.cni.cncf.io/devinfo/cni/x",
            "deviceID": "0000:00:04.0",
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 2048, "ingressBurst": 1600},
            "dns": {"servers": ["8.8.8.8"]},
            "cgroupPath": "/kubelet.slice",
            "io.kubernetes.cri.pod-annotations": {"a": "b"},
        },
        prevResult=PREV_RESULT,
        args={"cni": {"labels": [{"key": "app", "value": "x"}]}, "other": 1},
        capabilities={"mac": True},
        dns={"nameservers": ["10.88.0.1"], "search": ["lan"]},
        deviceID="0000:00:04.0",
        pciBusID="0000:00:04.0",
        cniVersions=["1.0.0", "1.1.0"],
        disableCheck=False,
        disableGC=True,
        loadOnlyInlinedPlugins=False,
        **{
            "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
            "cni.dev/attachments": [],
            "cni.dev/whatever": {"x": 1},
            "k8s.v1.cni.cncf.io/resourceName": "intel.com/x",
            "kubernetes.cni.cncf.io/anything": 1,
        },
    )
    assert got.mac == "02:00:00:00:00:aa"
    assert got.ips == ("10.88.0.7/16", "fd00::7")
    assert got.device_info_file == "/var/run/k8s.cni.cncf.io/devinfo/cni/x"
    assert got.valid_attachments == frozenset({("c1", "eth0")})
    assert got.prev_result is not None
    assert str(got.prev_result.ips[0].address) == "10.88.0.5/16"
    assert got.dns.search == ("lan",)
    assert got.runtime_config["cgroupPath"] == "/kubelet.slice"


def test_no_list_of_valid_attachments_is_not_an_empty_one() -> None:
    assert conf().valid_attachments is None
    assert conf(**{"cni.dev/valid-attachments": None}).valid_attachments is None
    assert conf(**{"cni.dev/valid-attachments": []}).valid_attachments == frozenset()


def test_the_runtime_comes_before_args_before_cni_args() -> None:
    a, b, c = (f"02:00:00:00:00:0{digit}" for digit in "abc")
    args, runtime = {"cni": {"mac": b}}, {"mac": a}

    def mac(**keys: Any) -> str | None:
        return parse(json.dumps({**MINIMAL, **keys}).encode(), {"MAC": c}).mac

    assert mac(runtimeConfig=runtime, args=args) == a
    assert mac(args=args) == b
    assert mac() == c
    stdin = json.dumps({**MINIMAL, "args": {"cni": {"ips": ["10.0.0.2"]}}}).encode()
    assert parse(stdin, {"IP": "10.0.0.3"}).ips == ("10.0.0.2",)
    assert parse(json.dumps(MINIMAL).encode(), {"IP": "10.0.0.3"}).ips == ("10.0.0.3",)


def test_an_integer_may_be_written_as_a_float() -> None:
    assert repr(conf(queues=2.0).queues) == "2"


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


def test_escapes_are_read() -> None:
    text = json.dumps({**MINIMAL, "runtimeConfig": {"deviceID": "\U0001f600\\ud800"}})
    assert parse(text.encode()).device_id == "\U0001f600\\ud800"


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


def test_the_version_to_answer_in() -> None:
    assert reply_version(b'{"cniVersion": "0.4.0", "x": 1}') == "0.4.0"
    for stdin in (b"", b"[]", b'{"cniVersion": "9.0.0"}', b'{"cniVersion": [1]}'):
        assert reply_version(stdin) == "1.1.0"


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


def test_what_cni_args_say_is_not_looked_at_where_args_say_it_too() -> None:
    stdin = json.dumps(
        {**MINIMAL, "args": {"cni": {"ips": ["10.0.0.2"], "mac": "02:00:00:00:00:01"}}}
    ).encode()
    got = parse(stdin, {"IP": "nonsense", "MAC": "nonsense"})
    assert (got.ips, got.mac) == (("10.0.0.2",), "02:00:00:00:00:01")


def test_ip_in_cni_args_may_be_a_list() -> None:
    stdin = json.dumps(MINIMAL).encode()
    assert parse(stdin, {"IP": "10.0.0.3/24, fd00::3"}).ips == ("10.0.0.3/24", "fd00::3")
    with pytest.raises(CniError, match='CNI_ARGS: IP: "x" is not an IP address') as caught:
        parse(stdin, {"IP": "10.0.0.3,x"})
    assert caught.value.code == 4


def test_the_device_of_the_runtime_comes_first() -> None:
    assert conf().device_id == ""
    assert conf(deviceID="a").device_id == "a"
    assert conf(deviceID="a", runtimeConfig={"deviceID": "b"}).device_id == "b"


def test_del_passes_over_a_bad_prev_result() -> None:
    stdin = json.dumps({**MINIMAL, "prevResult": {"cniVersion": "9.0.0", "ips": 3}}).encode()
    assert refusal(stdin).code == 6
    assert parse(stdin, lenient=True).prev_result is None


def test_the_dns_of_the_runtime_comes_in_front() -> None:
    runtime = {"dns": {"servers": ["10.0.0.9"], "searches": ["b", "a"], "options": None}}
    got = conf(runtimeConfig=runtime, dns={"nameservers": ["10.0.0.1"], "search": ["a"]}).dns
    assert got.to_json() == {"nameservers": ["10.0.0.9", "10.0.0.1"], "search": ["b", "a"]}
    wrong = {**MINIMAL, "runtimeConfig": {"dns": {"servers": "10.0.0.9"}}}
    error = refusal(json.dumps(wrong).encode())
    assert (error.code, error.msg[:26]) == (7, "runtimeConfig.dns.servers:")
