"""Two kernel containers joined by one of those compared, and where their load runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.bench.bounce import Meter
from tests.bench.cores import LOAD_CORE
from tests.bench.dataplane import bench_lab
from tests.bench.measure import CYCLES
from tests.smoke.netns import Netns


@dataclass(frozen=True, slots=True)
class End:
    """A kernel container, and the cores that its load may use."""

    netns: Netns
    ip4: str
    cores: tuple[int, ...] = (LOAD_CORE,)

    def on_cores(self, *words: str) -> tuple[str, ...]:
        """Return a command that runs on this end's cores."""
        return ("taskset", "-c", ",".join(map(str, self.cores)), *words)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two containers that reach each other through a forwarder."""

    client: End
    server: End
    meter: Meter | None = None

    def begin(self) -> None:
        """Begin to count the forwarder's cycles anew, if it counts them."""
        if self.meter:
            self.meter.begin()

    def cycles(self) -> dict[str, float]:
        """Return its busy cycles per packet since `begin`, if it counts them."""
        return {CYCLES: self.meter.cycles_per_packet()} if self.meter else {}


Make = Callable[[], AbstractContextManager[Pair]]


@contextmanager
def ours(cores: tuple[int, ...] = (LOAD_CORE,)) -> Iterator[Pair]:
    """Give two containers on taps of our dataplane, their load on these cores."""
    with bench_lab() as lab:
        network = lab.network()
        one, other = (lab.container(network, number) for number in (1, 2))
        one.know(other)
        other.know(one)
        client, server = (End(each.netns, each.ip4, cores) for each in (one, other))
        yield Pair(client, server, Meter.of(lab))


def introduce(space: Netns, number: int) -> None:
    """Set eth0 up as that of the first container or of the second, knowing the other."""
    other = 3 - number
    space.ip(
        f"link set eth0 address {_mac(number)} up",
        f"addr add {ip4(number)}/24 dev eth0",
        f"neigh replace {ip4(other)} lladdr {_mac(other)} dev eth0",
    )


def ip4(number: int) -> str:
    """Return the address of the first container or of the second."""
    return f"10.9.0.{number}"


def _mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"
