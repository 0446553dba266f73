"""The engine's spoof check, frame by frame, without a dataplane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.smoke.forgeries import FORGERIES, HONEST, OTHER_IP4, OTHER_IP6, Pair, forgeries
from tests.unit.dataplane_process import needs_engine
from tests.unit.engine_program import answers, build

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Addresses:
    mac: str
    ip4: str
    ip6: str


PAIR = Pair(
    Addresses("02:00:00:00:00:01", "10.9.0.1", "fd00:9::1"),
    Addresses("02:00:00:00:00:02", "10.9.0.2", "fd00:9::2"),
)
OWN = (PAIR.me.ip4, PAIR.me.ip6)
ETHERNET_BYTES = 14
NEEDS_NO_ADDRESS = {
    "spoof_arp": ["request with another's MAC", "reply with another's MAC"],
    "spoof_nd": ["another's MAC", "solicitation with another's MAC"],
    "spoof_ipv6": ["nobody's", "echo from nobody"],
}

pytestmark = needs_engine


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tables")
    return build(directory, "spoof_check", "spoof.c", "guard.c", "drops.c")


def verdicts(program: Path, frames: list[bytes], ips: tuple[str, ...] = OWN) -> list[str]:
    mac = PAIR.me.mac.replace(":", "")
    return answers(program, [mac, *ips], (frame.hex() for frame in frames))


@pytest.mark.parametrize("reason", FORGERIES)
def test_forged_frames_are_told_by_reason(program: Path, reason: str) -> None:
    names = list(FORGERIES[reason])
    frames = [build(PAIR) for build in FORGERIES[reason].values()]
    found = dict(zip(names, verdicts(program, frames), strict=True))
    assert found == dict.fromkeys(names, reason)


def test_honest_frames_pass(program: Path) -> None:
    found = verdicts(program, [build(PAIR) for build in HONEST.values()])
    assert dict(zip(HONEST, found, strict=True)) == dict.fromkeys(HONEST, "passes")


@pytest.mark.parametrize("ips", [(), (PAIR.me.ip4,), (PAIR.me.ip6,)], ids=["none", "IPv4", "IPv6"])
def test_own_link_local_address_is_always_there(program: Path, ips: tuple[str, ...]) -> None:
    link_local = ["is my link-local address taken", "advertisement of the link-local address"]
    frames = [HONEST[name](PAIR) for name in (*link_local, "multicast report from nobody")]
    assert verdicts(program, frames, ips) == ["passes"] * 3


def test_without_addresses_those_of_ip_are_free_and_the_rest_is_not(program: Path) -> None:
    """So it is without IPAM: nobody knows which addresses are the container's."""
    for reason, builds in FORGERIES.items():
        found = verdicts(program, [build(PAIR) for build in builds.values()], ())
        if reason in ("spoof_mac", "rogue_ra", "rogue_redirect", "rogue_dhcp", "hidden_headers"):
            assert set(found) == {reason}
    for reason, names in NEEDS_NO_ADDRESS.items():
        assert set(verdicts(program, [FORGERIES[reason][n](PAIR) for n in names], ())) == {reason}
    free = [
        FORGERIES["spoof_ipv4"]["another's"](PAIR),
        FORGERIES["spoof_ipv6"]["another's"](PAIR),
        FORGERIES["spoof_arp"]["gratuitous request"](PAIR),
        FORGERIES["spoof_nd"]["another's address"](PAIR),
        FORGERIES["spoof_nd"]["is another's address taken"](PAIR),
    ]
    assert verdicts(program, free, ()) == ["passes"] * len(free)


def test_another_address_of_the_container_is_its_own(program: Path) -> None:
    frames = [
        FORGERIES["spoof_ipv4"]["another's"](PAIR),
        FORGERIES["spoof_arp"]["probe of another's address"](PAIR),
        FORGERIES["spoof_nd"]["another's address"](PAIR),
    ]
    assert verdicts(program, frames, (*OWN, OTHER_IP4, OTHER_IP6)) == ["passes"] * 3


def test_no_frame_is_read_beyond_its_end(program: Path) -> None:
    """Cut off anywhere; the address sanitizer watches."""
    whole = [frame for _, frame in forgeries(PAIR)] + [build(PAIR) for build in HONEST.values()]
    cut = [frame[:n] for frame in whole for n in range(ETHERNET_BYTES, min(len(frame), 150))]
    assert len(verdicts(program, cut)) == len(cut)


def test_what_forges_does_not_pass_for_being_cut_off(program: Path) -> None:
    """A frame shorter than the header that tells is a runt, hidden, or forged still."""
    for name, make in FORGERIES["rogue_ra"].items():
        frame = make(PAIR)
        found = verdicts(program, [frame[:n] for n in range(ETHERNET_BYTES, len(frame))])
        assert set(found) <= {"runt", "hidden_headers", "rogue_ra"}, name
