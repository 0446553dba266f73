"""The plan: from what is there to what should be, in an order that can be carried out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_virtio.reconcile import (
    Action,
    Actual,
    AddNetwork,
    AddPort,
    DelNetwork,
    DelPort,
    Desired,
    SetLimits,
    plan,
)
from dataplane.wire import EthdevSpec, Limits, NetworkSpec, PortSpec

MAC = "02:00:00:00:00:01"
WIRE = PortSpec(
    "uplink:wire", kind="ethdev", role="uplink", ethdev=EthdevSpec("net_null0", {"tso": True})
)
WIDER = replace(WIRE, mtu=9000)
PODS = NetworkSpec("pods", uplink=WIRE.name, vlan=7)
LOCAL = NetworkSpec("local")
POD = PortSpec("pod:a/eth0", kind="tap", role="container", network="pods", mac=MAC)
HOST = PortSpec("host:pods", kind="tap", role="host", network="pods", mac=MAC)
TWIN = PortSpec(
    "exception:wire",
    kind="tap",
    role="exception",
    uplink=WIRE.name,
    mac=MAC,
    labels={"ifname": "virtio_user0"},
)
ELSEWHERE = PortSpec("pod:b/eth0", kind="tap", role="container", network="local", mac=MAC)


def networks(*specs: NetworkSpec) -> dict[str, NetworkSpec]:
    return {spec.name: spec for spec in specs}


def ports(*specs: PortSpec) -> dict[str, PortSpec]:
    return {spec.name: spec for spec in specs}


ALL = Desired(networks(PODS, LOCAL), ports(POD, HOST, WIRE, ELSEWHERE))


def actual_of(desired: Desired) -> Actual:
    return Actual(desired.networks, desired.ports)


def test_from_nothing_each_stands_on_what_came_before() -> None:
    assert plan(ALL, Actual()) == [
        AddPort(WIRE),
        AddNetwork(LOCAL),
        AddNetwork(PODS),
        AddPort(HOST),
        AddPort(POD),
        AddPort(ELSEWHERE),
    ]


def test_to_nothing_what_stands_on_others_goes_first() -> None:
    actions = plan(Desired(), actual_of(ALL))
    assert [type(action) for action in actions] == [DelPort] * 3 + [DelNetwork] * 2 + [DelPort]
    assert actions[-1] == DelPort(WIRE.name)
    assert actions[-4:-1] == [DelPort(HOST.name), DelNetwork("local"), DelNetwork("pods")]


def test_nothing_to_do_where_all_is_as_wanted() -> None:
    assert plan(ALL, actual_of(ALL)) == []


def test_labels_alone_are_no_reason_to_cut_traffic() -> None:
    labelled = Desired(ALL.networks, {**ALL.ports, POD.name: replace(POD, labels={"pod": "x"})})
    assert plan(labelled, actual_of(ALL)) == []


SLOW = Limits(egress_bits_s=10**6, egress_burst_bits=10**5)


@pytest.mark.parametrize(("now", "wanted"), [(Limits(), SLOW), (SLOW, Limits())])
def test_limits_alone_change_on_the_running_port(now: Limits, wanted: Limits) -> None:
    desired = Desired(ALL.networks, {**ALL.ports, POD.name: replace(POD, limits=wanted)})
    actual = Actual(ALL.networks, {**ALL.ports, POD.name: replace(POD, limits=now)})
    assert plan(desired, actual) == [SetLimits(POD.name, wanted)]


def test_a_port_made_anew_has_its_limits_from_the_start() -> None:
    other = replace(POD, mtu=1400, limits=SLOW)
    desired = Desired(ALL.networks, {**ALL.ports, POD.name: other})
    assert plan(desired, actual_of(ALL)) == [DelPort(POD.name), AddPort(other)]


@pytest.mark.parametrize(
    ("desired", "untouched"),
    [
        (Desired(ALL.networks, {**ALL.ports, POD.name: replace(POD, mtu=1400)}), HOST),
        (Desired({**ALL.networks, "pods": replace(PODS, vlan=8)}, ALL.ports), ELSEWHERE),
        (Desired(ALL.networks, {**ALL.ports, WIRE.name: WIDER}), ELSEWHERE),
    ],
    ids=["port", "network", "uplink"],
)
def test_what_changed_is_made_anew_and_nothing_else(desired: Desired, untouched: PortSpec) -> None:
    actions = plan(desired, actual_of(ALL))
    assert apply(actions, actual_of(ALL)) == Actual(desired.networks, desired.ports)
    assert DelPort(untouched.name) not in actions


def test_a_twin_goes_before_its_uplink_and_comes_after_it() -> None:
    wire = {WIRE.name: WIRE, TWIN.name: TWIN}
    wider = {WIRE.name: WIDER, TWIN.name: TWIN}
    assert plan(Desired(ports=wire), Actual()) == [AddPort(WIRE), AddPort(TWIN)]
    assert plan(Desired(), Actual(ports=wire)) == [DelPort(TWIN.name), DelPort(WIRE.name)]
    assert plan(Desired(ports=wider), Actual(ports=wire)) == [
        DelPort(TWIN.name),
        DelPort(WIRE.name),
        AddPort(WIDER),
        AddPort(TWIN),
    ]


def test_a_twin_under_another_name_is_another() -> None:
    renamed = replace(TWIN, labels={"ifname": "wire"})
    desired = Desired(ports={WIRE.name: WIRE, TWIN.name: renamed})
    actual = Actual(ports={WIRE.name: WIRE, TWIN.name: TWIN})
    assert plan(desired, actual) == [DelPort(TWIN.name), AddPort(renamed)]


def test_a_changed_uplink_takes_its_network_and_ports_along() -> None:
    desired = Desired(ALL.networks, {**ALL.ports, WIRE.name: WIDER})
    assert plan(desired, actual_of(ALL)) == [
        DelPort(POD.name),
        DelPort(HOST.name),
        DelNetwork("pods"),
        DelPort(WIRE.name),
        AddPort(WIDER),
        AddNetwork(PODS),
        AddPort(HOST),
        AddPort(POD),
    ]


MAYBE_WIRE = st.sampled_from([WIRE, WIDER])
STATES = st.builds(
    lambda wire, vlan, chosen: (wire, replace(PODS, vlan=vlan), chosen),
    MAYBE_WIRE,
    st.sampled_from([7, 8]),
    st.sets(st.sampled_from(["pods", "local", "a", "b", "host", "slow"])),
)


def state_of(drawn: tuple[PortSpec, NetworkSpec, set[str]]) -> tuple[dict, dict]:  # type: ignore[type-arg]
    wire, pods, chosen = drawn
    has_pods = bool(chosen & {"pods", "a", "host"})
    has_local = bool(chosen & {"local", "b"})
    found_networks = networks(*[pods] * has_pods, *[LOCAL] * has_local)
    found_ports = ports(
        wire,
        *[replace(POD, limits=SLOW if "slow" in chosen else Limits())] * ("a" in chosen),
        *[HOST] * ("host" in chosen),
        *[ELSEWHERE] * ("b" in chosen),
    )
    return found_networks, found_ports


@given(STATES, STATES)
def test_the_plan_always_leads_from_any_state_to_any_other(
    before: tuple[PortSpec, NetworkSpec, set[str]], after: tuple[PortSpec, NetworkSpec, set[str]]
) -> None:
    desired, actual = Desired(*state_of(after)), Actual(*state_of(before))
    assert apply(plan(desired, actual), actual) == Actual(desired.networks, desired.ports)


def apply(actions: list[Action], actual: Actual) -> Actual:
    """Carry a plan out as strictly as the dataplane would."""
    has_networks, has_ports = dict(actual.networks), dict(actual.ports)
    for action in actions:
        match action:
            case AddNetwork(spec):
                assert spec.name not in has_networks
                assert spec.uplink is None or spec.uplink in has_ports
                has_networks[spec.name] = spec
            case DelNetwork(name):
                assert not [port for port in has_ports.values() if port.network == name]
                del has_networks[name]
            case AddPort(port):
                assert port.name not in has_ports
                assert port.network is None or port.network in has_networks
                has_ports[port.name] = port
            case SetLimits(name, limits):
                assert has_ports[name].limits != limits
                has_ports[name] = replace(has_ports[name], limits=limits)
            case DelPort(name):
                assert not [each for each in has_networks.values() if each.uplink == name]
                del has_ports[name]
    return Actual(has_networks, has_ports)
