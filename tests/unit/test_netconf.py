"""The netconf: what is accepted, with which defaults, and what comes before what."""

import json
from typing import Any

import pytest

from cni_virtio import netconf
from cni_virtio.netconf import NetConf, VhostUser, parse, reply_version
from cni_virtio.spec import CniError
from dataplane.limits import Limits
from tests.unit.netconfs import MINIMAL, conf, limited, refusal

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


def test_escapes_are_read() -> None:
    text = json.dumps({**MINIMAL, "runtimeConfig": {"deviceID": "\U0001f600\\ud800"}})
    assert parse(text.encode()).device_id == "\U0001f600\\ud800"


def test_the_version_to_answer_in() -> None:
    assert reply_version(b'{"cniVersion": "0.4.0", "x": 1}') == "0.4.0"
    for stdin in (b"", b"[]", b'{"cniVersion": "9.0.0"}', b'{"cniVersion": [1]}'):
        assert reply_version(stdin) == "1.1.0"


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
