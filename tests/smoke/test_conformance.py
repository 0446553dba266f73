"""The verbs as the spec words them: every version, convergence, GC and STATUS to the letter."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.agent import PLUGINS, Node, containers, valid
from tests.smoke.netns import Netns
from tests.smoke.ports import wait_until

VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
IPAM = """\
#!/bin/sh
cat > /dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID" >> {log}
fail() {{ echo "$1"; exit 1; }}
[ "$CNI_COMMAND $CNI_CONTAINERID" != "DEL stuck" ] || fail '{{"code": 77, "msg": "no"}}'
case $CNI_COMMAND in
ADD) echo '{{"cniVersion": "1.1.0", "ips": [{{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}}],
"routes": [{{"dst": "10.97.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 50,
"scope": 0}}]}}';;
GC) sleep 1; exec >> {log}; echo GC done;;
STATUS) test ! -e {full} || fail '{{"code": 50, "msg": "the pool is full"}}';;
esac
"""


@pytest.fixture
def ipam(tmp_path: Path) -> dict[str, Any]:
    """The keys for an IPAM plugin that speaks 1.1.0, writes down its calls, and can be full."""
    script = IPAM.format(log=tmp_path / "log", full=tmp_path / "full")
    (tmp_path / "played").write_text(script)
    (tmp_path / "played").chmod(0o755)
    return {"ipam": {"type": "played"}, "path": f"{PLUGINS}:{tmp_path}"}


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


@pytest.mark.parametrize("version", VERSIONS)
def test_all_verbs_in_every_version(here: Node, a: Netns, version: str) -> None:
    keys: dict[str, Any] = {"cniVersion": version, "isDefaultGateway": True}
    result = here.add("c1", a, **keys).body
    assert (version, version < "1") == (result["cniVersion"], "version" in result["ips"][0])
    assert ("mtu" in result["interfaces"][0]) == (version >= "1.1")
    checked = here.call("CHECK", "c1", a, **keys, prevResult=result)
    assert checked.body.get("code", 0) == (0 if version >= "0.4" else 1), checked.body
    assert here.call("ADD", "c1", a, **keys).body["code"] == 4
    for verb, more in (("GC", valid("c1")), ("STATUS", {})):
        answer = here.call(verb, **keys, **more)
        assert answer.body.get("code", 0) == (0 if version >= "1.1" else 1), answer.body
    for _ in range(2):
        here.delete("c1", a, **keys, prevResult=result)


@pytest.mark.parametrize("version", ["0.2.0", "1.2.0", "2.0.0"])
def test_other_versions_are_error_1(here: Node, a: Netns, version: str) -> None:
    for command in ("ADD", "CHECK", "DEL"):
        refused = here.call(command, "c1", a, cniVersion=version)
        assert (refused.status, refused.body["code"]) == (1, 1)


def test_route_attributes_are_set_and_reported(here: Node, a: Netns, ipam: dict[str, Any]) -> None:
    result = here.add("c1", a, **ipam).body
    wanted = {
        "dst": "10.97.0.0/16",
        "mtu": 1300,
        "advmss": 1200,
        "priority": 7,
        "table": 50,
        "scope": 0,
    }
    assert result["routes"] == [wanted]
    found = " ".join(a.run("ip", "route", "show", "table", "50").split())
    assert found == "10.97.0.0/16 via 10.9.0.1 dev eth0 metric 7 mtu 1300 advmss 1200"
    assert here.call("CHECK", "c1", a, **ipam, prevResult=result).status == 0
    here.delete("c1", a, **ipam)
    result = here.add("c1", a, cniVersion="1.0.0", **ipam).body
    assert result["routes"] == [{"dst": "10.97.0.0/16"}]
    here.delete("c1", a, cniVersion="1.0.0", **ipam)


def test_no_ipv6_address_is_tentative_and_none_comes_by_itself(here: Node, a: Netns) -> None:
    here.add("c1", a)
    (link,) = json.loads(a.run("ip", "-j", "-6", "addr", "show", "eth0"))
    assert {each["scope"] for each in link["addr_info"]} == {"global", "link"}
    assert not [each for each in link["addr_info"] if each.get("tentative")]
    assert a.run("sysctl", "-n", "net.ipv6.conf.eth0.accept_ra").strip() == "0"
    here.delete("c1", a)


def test_check_waits_for_a_dataplane_that_comes_back(here: Node, a: Netns) -> None:
    result = here.add("c1", a, isGateway=True).body
    here.kill_dataplane()
    assert here.call("CHECK", "c1", a, isGateway=True, prevResult=result).body == {}
    here.host.ip("addr del 10.88.0.1/16 dev cv-pods")
    refused = here.call("CHECK", "c1", a, isGateway=True, prevResult=result)
    assert (
        refused.body["msg"]
        == "the host's interface cv-pods has lost the gateway's address 10.88.0.1/16"
    )
    here.delete("c1", a, isGateway=True)


def test_status_says_why_add_would_fail(
    here: Node, a: Netns, ipam: dict[str, Any], tmp_path: Path
) -> None:
    assert here.call("STATUS", **ipam).status == 0
    (tmp_path / "full").touch()
    full = here.call("STATUS", **ipam).body
    assert (full["code"], full["msg"]) == (50, "IPAM plugin played: the pool is full")
    absent = here.call("STATUS", ipam={"type": "absent"}).body
    assert (absent["code"], absent["msg"][:19]) == (50, "ipam.type: 'absent'")
    here.add("c1", a)
    here.kill_dataplane()
    wait_until(lambda: here.status()["dataplane"]["pid"] is None, "the agent's notice")
    here_down, elsewhere_down = here.call("STATUS").body, here.call("STATUS", name="others").body
    assert (here_down["code"], elsewhere_down["code"]) == (51, 50)
    assert here_down["msg"].startswith("the dataplane is not running")
    wait_until(lambda: here.call("STATUS").status == 0, "the dataplane", 20)
    here.delete("c1", a)


def test_gc_goes_on_after_errors(
    here: Node, a: Netns, ipam: dict[str, Any], tmp_path: Path
) -> None:
    with containers(2) as (b, c):
        for name, space in (("stuck", a), ("other", b), ("valid", c)):
            here.add(name, space, **ipam)
        (tmp_path / "log").write_text("")
        answer = here.call("GC", **ipam, **valid("valid"))
        assert (answer.body["code"], answer.body["msg"]) == (
            77,
            "stuck/eth0: IPAM plugin played: no",
        )
        assert calls(tmp_path) == ["DEL stuck", "DEL other", "GC ", "GC done"]
        assert here.ports() == {"pod:valid/eth0"}
        here.delete("valid", c, **ipam)
        assert here.left_over() == {"records": ["pods@stuck@eth0.json"]}  # for the next GC
        here.call("DEL", "stuck", a, **ipam)


def test_gc_keeps_add_waiting(here: Node, a: Netns, ipam: dict[str, Any], tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        collecting = pool.submit(lambda: here.call("GC", **ipam, **valid()))
        wait_until((tmp_path / "log").exists, "GC of IPAM")
        here.add("c1", a, **ipam)
        assert collecting.result().status == 0
    assert calls(tmp_path) == ["GC ", "GC done", "ADD c1"]
    here.delete("c1", a, **ipam)


def test_a_device_that_is_no_uplink_is_refused(here: Node, a: Netns) -> None:
    refused = here.call("ADD", "c1", a, deviceID="0000:04:00.5")
    assert refused.body["code"] == 7
    assert refused.body["msg"].startswith("deviceID: '0000:04:00.5' is a PCI device other than")
    here.add("c1", a, runtimeConfig={"deviceID": "slot-3"})
    assert here.port("pod:c1/eth0")["spec"]["labels"]["device_id"] == "slot-3"
    here.delete("c1", a)


def test_pod_and_trace_are_in_the_log(here: Node, a: Netns) -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=prod"
    here.add("traced", a, args=args, env={"TRACEPARENT": "00-abc-def-01"})
    lines = (here.directory / "agent.log").read_text().splitlines()
    (line,) = [line for line in lines if "ADD traced/eth0 (prod/web) on pods" in line]
    assert line.endswith("ms [00-abc-def-01]")
    here.delete("traced", a)
