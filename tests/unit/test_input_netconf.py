"""Every netconf is either accepted, as it was meant, or refused in one line with its own code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cni_virtio.netconf import NetConf, parse, reply_version
from cni_virtio.results import SUPPORTED_VERSIONS
from cni_virtio.spec import CniError
from tests.unit import inputs

REFUSALS = {1, 2, 4, 6, 7}
BAD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["", "a b", "-a", "a/b", "a\n", "é", 1, None, "x" * 256]),
    "type": st.sampled_from(["", 1, None, ["a"]]),
    "agentSocket": st.sampled_from(["", "a.sock", "/", "/" + "x" * 107, "/a\0b", 1]),
    "network": st.sampled_from(["", "a b", "x" * 65, None]),
    "interface": st.sampled_from(["veth", "Kernel", None, 0]),
    "queues": st.integers(max_value=0) | st.integers(257) | st.sampled_from([1.5, "1", True]),
    "queueSize": st.sampled_from([0, 1, 63, 100, 65536, -64, "256"]),
    "mtu": st.integers(max_value=67) | st.integers(65522) | st.sampled_from(["1500", 1500.5]),
    "isGateway": st.sampled_from([0, 1, "true", None]),
    "spoofCheck": st.sampled_from([0, "no", []]),
    "bandwidth": st.sampled_from([{"ingressRate": -1}, {"egressRate": 10**16}, 7]),
    "vhostUser": st.sampled_from([{"mode": "both"}, {"uid": -1}, {"gid": 2**32}, "client"]),
    "ipam": st.sampled_from([{"type": "a/b"}, {"type": ".."}, {"x": 1}, "host-local"]),
    "dns": st.sampled_from([{"search": "a"}, {"nameservers": [1]}, 1]),
}


def encoded(conf: Any) -> bytes:
    return json.dumps(conf).encode()


def refusal(stdin: bytes, **options: Any) -> CniError | None:
    """The error that a netconf gets, which says in one short line what is wrong; None if none."""
    try:
        parse(stdin, **options)
    except CniError as refused:
        error = refused
    else:
        return None
    assert error.code in REFUSALS
    assert error.msg.isprintable()
    assert 0 < len(error.msg) < 1000
    return error


def expected(conf: dict[str, Any]) -> dict[str, Any]:
    """What of a netconf must be read how, by the documentation."""
    runtime = conf.get("runtimeConfig", {})
    bandwidth = runtime.get("bandwidth", conf.get("bandwidth", {}))
    return {
        "cni_version": conf["cniVersion"],
        "name": conf["name"],
        "network": conf.get("network", conf["name"]),
        "agent_socket": conf.get("agentSocket", "/run/cni-virtio/agent.sock"),
        "interface": conf.get("interface", "kernel"),
        "queues": conf.get("queues", 1),
        "queue_size": conf.get("queueSize", 256),
        "mtu": conf.get("mtu"),
        "is_gateway": conf.get("isGateway", False) or conf.get("isDefaultGateway", False),
        "is_default_gateway": conf.get("isDefaultGateway", False),
        "ip_masq": conf.get("ipMasq", False),
        "spoof_check": conf.get("spoofCheck", True),
        "ipam_type": conf.get("ipam", {}).get("type"),
        "mac": runtime["mac"].lower() if "mac" in runtime else None,
        "ips": tuple(runtime.get("ips", ())),
        "device_info_file": runtime.get("CNIDeviceInfoFile"),
        "device_id": runtime.get("deviceID", ""),
        "rates": (bandwidth.get("ingressRate", 0), bandwidth.get("egressRate", 0)),
        "search": tuple(dict.fromkeys(conf.get("dns", {}).get("search", ()))),
        "mode": conf.get("vhostUser", {}).get("mode", "client"),
        "uid": conf.get("vhostUser", {}).get("uid", 0),
        "mount_path": conf.get("vhostUser", {}).get("mountPath", ""),
    }


def as_read(conf: NetConf) -> dict[str, Any]:
    nested = {
        "rates": (conf.limits.ingress_bits_s, conf.limits.egress_bits_s),
        "search": conf.dns.search,
        "mode": conf.vhost_user.mode,
        "uid": conf.vhost_user.uid,
        "mount_path": conf.vhost_user.mount_path,
    }
    flat = vars(conf)
    return nested | {key: flat[key] for key in flat if key not in nested}


@given(inputs.netconfs)
def test_a_valid_one_is_read_as_it_was_meant(conf: dict[str, Any]) -> None:
    wanted, got = expected(conf), as_read(parse(encoded(conf)))
    assert {key: got[key] for key in wanted} == wanted
    assert got["raw"] == conf


@given(inputs.netconfs, st.data())
def test_a_bad_value_is_error_7_and_named(conf: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(BAD_VALUES)))
    error = refusal(encoded({**conf, key: data.draw(BAD_VALUES[key])}))
    assert error is not None
    assert error.code == 7
    assert error.msg.startswith(key)


@given(inputs.netconfs, inputs.any_text, inputs.any_json)
def test_an_unknown_key_is_error_2_and_named(conf: dict[str, Any], key: str, value: Any) -> None:
    assume(key not in conf and not key.startswith("cni.dev/") and key.isprintable())
    error = refusal(encoded({**conf, f"x{key}x": value}))
    assert error is not None
    if error.code != 6:  # what is no JSON comes first
        assert error.code == 2
        assert error.msg.startswith(("x", '"x'))


@given(inputs.spoilt(inputs.netconfs))
def test_any_object_is_read_or_refused(conf: Any) -> None:
    stdin = encoded(conf)
    error = refusal(stdin)
    if error is None:
        parse(stdin)
        # Whatever was accepted can be told to an IPAM plugin, and written into a record.
        json.dumps(parse(stdin).raw, ensure_ascii=False, allow_nan=False).encode()
    assert reply_version(stdin) in SUPPORTED_VERSIONS


def is_json(value: Any) -> bool:
    """Whether others than Python can read a value: no NaN, no half characters."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError:
        return False
    return True


NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e308, 10**400, 0.5)


@pytest.mark.parametrize("place", ["args", "cni.dev/x", "ipam"])
@pytest.mark.parametrize("value", [*inputs.ODD_TEXTS, *NUMBERS], ids=repr)
def test_what_passes_unread_is_json_at_least(value: Any, place: str) -> None:
    for inner in ({"a": [value]}, {str(value): 1}):
        conf = {"cniVersion": "1.1.0", "name": "n", "type": "t", place: {"type": "t", "x": inner}}
        error = refusal(encoded(conf))
        assert (error is None) == is_json(conf)
        assert error is None or error.code == 6


@pytest.mark.parametrize("text", inputs.ODD_TEXTS, ids=repr)
def test_odd_text_at_any_place(text: str) -> None:
    conf = {
        "cniVersion": "1.1.0",
        "name": "n",
        "type": "t",
        "network": "n",
        "interface": "kernel",
        "vhostUser": {"mode": "client", "mountPath": "/m"},
        "ipam": {"type": "t"},
        "dns": {"nameservers": ["a"], "domain": "d"},
        "runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["::1"], "deviceID": "d"},
        "args": {"cni": {"ips": ["::1"]}},
    }
    for place in inputs.places(conf):
        refusal(encoded(inputs.replaced(conf, place, text)))
    refusal(encoded({**conf, text: text}))


@given(inputs.netconfs, st.data())
def test_one_that_is_cut_off_is_error_6(conf: dict[str, Any], data: st.DataObject) -> None:
    stdin = encoded(conf)
    error = refusal(stdin[: data.draw(st.integers(0, len(stdin) - 1))])
    assert error is not None
    assert error.code == 6


@given(inputs.netconfs, inputs.any_json)
def test_del_can_do_without_a_previous_result(conf: dict[str, Any], previous: Any) -> None:
    if not isinstance(previous, dict):
        previous = {"ips": previous}
    error = refusal(encoded({**conf, "prevResult": previous}), lenient=True)
    assert error is None or "prevResult" not in error.msg


@given(inputs.netconfs, inputs.any_text)
@pytest.mark.parametrize("variable", ["MAC", "IP"])
def test_an_address_in_cni_args_is_taken_or_error_4(
    variable: str, conf: dict[str, Any], value: str
) -> None:
    error = refusal(encoded(conf), cni_args={variable: value})
    if error is not None:
        assert error.code == 4
        assert error.msg.startswith("CNI_ARGS: ")
