"""The environment of a request, errors and results, version by version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_virtio.spec import (
    DNS,
    SUPPORTED_VERSIONS,
    CniError,
    Code,
    Interface,
    IPConfig,
    Request,
    Result,
    ResultError,
    Route,
    at_least,
    check_ifname,
)

ADD = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
}
K8S_ARGS = (
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;"
    "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=0d1f;OTHER=x"
)


def result_of_every_kind() -> Result:
    return Result.from_json(
        {
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "host", "mac": "02:00:00:00:00:01"},
                {
                    "name": "eth0",
                    "mac": "02:00:00:00:00:02",
                    "mtu": 1500,
                    "sandbox": "/run/netns/c1",
                    "socketPath": "/run/x.sock",
                    "pciID": "0000:00:04.0",
                },
            ],
            "ips": [
                {"address": "10.88.0.5/16", "gateway": "10.88.0.1", "interface": 1},
                {"address": "fd00::5/64", "interface": 1},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.88.0.1", "mtu": 1400, "advmss": 1360},
                {"dst": "fd01::/64", "priority": 5, "table": 0, "scope": 0},
            ],
            "dns": {
                "nameservers": ["10.88.0.1"],
                "domain": "lan",
                "search": ["a"],
                "options": ["b"],
            },
        }
    )


def test_a_request_of_each_command() -> None:
    request = Request.parse(ADD, b"{}", 7)
    assert (request.command, request.container_id, request.ifname) == ("ADD", "c1", "eth0")
    assert request.path == ["/opt/cni/bin", "/usr/lib/cni"]
    assert (request.stdin, request.netns_fd, request.env) == (b"{}", 7, ADD)
    assert Request.parse({**ADD, "CNI_COMMAND": "CHECK"}, b"").command == "CHECK"
    without_netns = {**ADD, "CNI_COMMAND": "DEL", "CNI_NETNS": ""}
    assert Request.parse(without_netns, b"").netns == ""
    for command in ("GC", "STATUS", "VERSION"):
        assert Request.parse({"CNI_COMMAND": command}, b"").container_id == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"CNI_COMMAND": None}, "CNI_COMMAND"),
        ({"CNI_COMMAND": "add"}, "'add'"),
        ({"CNI_CONTAINERID": None}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "-c1"}, "'-c1'"),
        ({"CNI_CONTAINERID": "a/../b"}, "'a/../b'"),
        ({"CNI_CONTAINERID": "c1\n"}, "CNI_CONTAINERID"),
        ({"CNI_CONTAINERID": "c" * 201}, "has 201 characters, at most 200 fit"),
        ({"CNI_IFNAME": None}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "sixteen-bytes-xx"}, "16 bytes"),
        ({"CNI_IFNAME": "äöüäöüäö"}, "16 bytes"),
        ({"CNI_IFNAME": "."}, "'.'"),
        ({"CNI_IFNAME": ".."}, "'..'"),
        ({"CNI_IFNAME": "a/b"}, "'a/b'"),
        ({"CNI_IFNAME": "a:b"}, "'a:b'"),
        ({"CNI_IFNAME": "a b"}, "'a b'"),
        ({"CNI_IFNAME": "a\u00a0b"}, "CNI_IFNAME"),
        ({"CNI_NETNS": None}, "CNI_NETNS"),
        ({"CNI_ARGS": "A"}, "'A'"),
        ({"CNI_ARGS": "MAC=1;"}, "''"),
        ({"CNI_ARGS": "=1"}, "'=1'"),
        ({"CNI_ARGS": "IP=1=2"}, "'IP=1=2'"),
        ({"CNI_ARGS": "IgnoreUnknown=yes"}, "IgnoreUnknown=yes"),
        ({"CNI_ARGS": "FOO=BAR"}, "FOO=BAR"),
        ({"CNI_ARGS": "IgnoreUnknown=0;FOO=BAR"}, "FOO=BAR"),
        ({"CNI_ARGS": "mac=02:00:00:00:00:01"}, "mac=02"),
    ],
)
def test_a_bad_variable_is_error_4_and_named(change: dict[str, str | None], named: str) -> None:
    env = {key: value for key, value in {**ADD, **change}.items() if value is not None}
    with pytest.raises(CniError) as caught:
        Request.parse(env, b"")
    assert caught.value.code == 4
    assert caught.value.msg.startswith(next(iter(change)))
    assert named in caught.value.msg
    assert "\n" not in caught.value.msg


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(CniError, match="CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME: not set"):
        Request.parse({"CNI_COMMAND": "ADD"}, b"")


def test_cni_args_of_kubernetes() -> None:
    request = Request.parse({**ADD, "CNI_ARGS": K8S_ARGS}, b"")
    assert request.pod == {"name": "web-0", "namespace": "shop", "uid": "0d1f"}
    assert request.args["OTHER"] == "x"
    true = Request.parse({**ADD, "CNI_ARGS": "FOO=1;IgnoreUnknown=True"}, b"")
    assert true.args["FOO"] == "1"
    assert Request.parse({**ADD, "CNI_ARGS": "MAC=x;IP=y"}, b"").pod == {}


def test_relative_places_of_cni_path_are_left_out() -> None:
    assert Request.parse({**ADD, "CNI_PATH": "bin::/a:./b"}, b"").path == ["/a"]


def test_a_name_is_measured_in_bytes() -> None:
    check_ifname("é" * 7)
    with pytest.raises(CniError, match="has 16 bytes, allowed are 1 to 15"):
        check_ifname("é" * 8)


@pytest.mark.parametrize(
    ("name", "said"), [("à", "a byte 0xa0"), ("Š0", "a byte 0xa0"), ("a%d", "'%'"), ("%", "'%'")]
)
def test_a_name_that_the_kernel_would_not_take_as_it_is(name: str, said: str) -> None:
    with pytest.raises(CniError, match=said) as caught:
        check_ifname(name)
    assert caught.value.code == 4


@pytest.mark.parametrize("name", [b"\xff\xfe", b"eth\x01", b"a\x7f", b"a\xe2\x80\x8b"])
def test_a_name_that_cannot_be_printed_is_refused(name: bytes) -> None:
    """No port of the dataplane can have it in its name, nor can a log line."""
    with pytest.raises(CniError, match="cannot be printed") as caught:
        check_ifname(name.decode("utf-8", "surrogateescape"))
    assert caught.value.code == 4


def test_an_error_in_json() -> None:
    assert CniError(Code.DATAPLANE, "m", "d").to_json("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 100,
        "msg": "m",
        "details": "d",
    }
    assert "details" not in CniError(7, "m").to_json("1.0.0")


def test_versions_compare_as_numbers() -> None:
    assert at_least("1.10.0", "1.9.9")
    assert at_least("0.4.0", "0.4.0")
    assert not at_least("0.3.1", "0.4.0")


def test_the_newest_result_has_everything() -> None:
    result = result_of_every_kind()
    assert Result.from_json(result.to_json("1.1.0")) == result
    assert result.routes[1].table == 0
    assert result.to_json("1.1.0")["routes"][1]["table"] == 0


def test_result_1_0_lacks_what_1_1_brought() -> None:
    out = result_of_every_kind().to_json("1.0.0")
    assert out["interfaces"][1] == {
        "name": "eth0",
        "mac": "02:00:00:00:00:02",
        "sandbox": "/run/netns/c1",
    }
    assert out["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.88.0.1"}, {"dst": "fd01::/64"}]
    assert "version" not in out["ips"][0]


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_results_before_1_0_name_the_ip_version(version: str) -> None:
    out = result_of_every_kind().to_json(version)
    assert out["cniVersion"] == version
    assert [ip["version"] for ip in out["ips"]] == ["4", "6"]
    assert "mtu" not in out["interfaces"][1]


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_an_empty_result_has_a_version_only(version: str) -> None:
    assert Result().to_json(version) == {"cniVersion": version}
    assert Result.from_json({"cniVersion": version, "dns": None, "ips": None}) == Result()


@pytest.mark.parametrize("index", [0, 7, -1])
def test_an_index_that_points_nowhere_is_dropped(index: int) -> None:
    result = Result.from_json({"ips": [{"address": "10.0.0.1/8", "interface": index}]})
    assert result.ips[0].interface is None


def test_a_route_may_have_host_bits() -> None:
    assert str(Route.from_json({"dst": "10.1.2.3/8"}, "r").dst) == "10.0.0.0/8"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "result: [] is not an object"),
        ({"cniVersion": "0.2.0"}, "result.cniVersion: '0.2.0' is not supported"),
        ({"ips": {}}, "result.ips: {} is not a list"),
        ({"ips": [1]}, "result.ips[0]: 1 is not an object"),
        ({"ips": [{}]}, "result.ips[0].address: None is not a string"),
        ({"ips": [{"address": "10.0.0.1"}]}, "not in CIDR notation"),
        ({"ips": [{"address": "10.0.0.999/8"}]}, "result.ips[0].address"),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}, "result.ips[0].gateway"),
        ({"ips": [{"address": "10.0.0.1/8", "interface": True}]}, "is not an integer"),
        ({"interfaces": [{"mac": "x"}]}, "result.interfaces[0].name"),
        ({"routes": [{"dst": "default"}]}, "result.routes[0].dst"),
        ({"routes": [{"dst": "::/0", "table": "main"}]}, "result.routes[0].table"),
        ({"routes": [{"dst": "::/0", "mtu": -1}]}, "result.routes[0].mtu: -1 is not from 0"),
        ({"routes": [{"dst": "::/0", "priority": 2**32}]}, "is not from 0 to 4294967295"),
        ({"routes": [{"dst": "::/0", "table": 10**400}]}, "result.routes[0].table: 1000"),
        ({"routes": [{"dst": "::/0", "scope": 256}]}, "256 is not from 0 to 255"),
        ({"interfaces": [{"name": "a", "mtu": -1}]}, "result.interfaces[0].mtu: -1"),
        ({"ips": [{"address": "fe80::1%eth0/64"}]}, "'fe80::1%eth0/64' must not have a zone"),
        ({"routes": [{"dst": "::/0", "gw": "fe80::1%2"}]}, "result.routes[0].gw: 'fe80::1%2'"),
        ({"dns": []}, ""),
        ({"dns": {"search": "lan"}}, "result.dns.search: 'lan' is not a list"),
        ({"dns": {"search": [1]}}, "result.dns.search[0]: 1 is not a string"),
        ({"dns": "x"}, "result.dns: 'x' is not an object"),
    ],
)
def test_a_bad_result_is_told_by_key_and_value(data: object, message: str) -> None:
    if not message:
        assert Result.from_json(data).dns == DNS()
        return
    with pytest.raises(ResultError) as caught:
        Result.from_json(data)
    assert message in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "interfaces": JSON,
            "ips": JSON | st.lists(st.fixed_dictionaries({"address": JSON, "interface": JSON})),
            "routes": JSON | st.lists(st.fixed_dictionaries({"dst": JSON, "gw": JSON})),
            "dns": JSON,
        },
    )
)
def test_arbitrary_json_is_read_or_refused(data: object) -> None:
    try:
        result = Result.from_json(data)
    except ResultError:
        return
    for version in SUPPORTED_VERSIONS:
        result.to_json(version)


def test_parts_can_be_made_by_hand() -> None:
    made = result_of_every_kind()
    again = Result(
        interfaces=(Interface("host", "02:00:00:00:00:01"), made.interfaces[1]),
        ips=(IPConfig(made.ips[0].address, made.ips[0].gateway, 1), made.ips[1]),
        routes=made.routes,
        dns=DNS(("10.88.0.1",), "lan", ("a",), ("b",)),
    )
    assert again == made
