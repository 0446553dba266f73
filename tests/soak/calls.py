"""Steps that call the plugin or the operator's command, each as a runtime or operator would."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cni_virtio.ctl.cli import cli
from tests.smoke.agent import Answer, Node, valid
from tests.smoke.netns import Netns
from tests.soak.model import KINDS, MOST_CONTAINERS, PODS, Container, Kind, Model

_AT_ONCE = 4
_RATES = (1_000_000, 10_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Newcomer:
    """A container before its ADD."""

    name: str
    kind: Kind
    space: Netns
    limits: dict[str, int]

    def keys(self, model: Model) -> dict[str, Any]:
        keys = model.keys(self.kind)
        bandwidth = {f"{way}Rate": rate for way, rate in self.limits.items()}
        return keys | ({"runtimeConfig": {"bandwidth": bandwidth}} if bandwidth else {})

    def add(self, model: Model) -> Answer:
        return model.node.call("ADD", self.name, self.space, **self.keys(model))


@contextmanager
def spaces_of(node: Node) -> Iterator[None]:
    """Remove at the end the namespaces that are left of containers."""
    try:
        yield
    finally:
        for path in Path("/run/netns").glob(f"{node.host.name}-*"):
            end_space(Netns(path.name))


def newcomer(model: Model) -> Newcomer:
    """Make a namespace for a container of any kind."""
    name, kind = model.new_name(), model.random.choice(KINDS)
    limited = model.random.random() < 0.2
    limits = {"ingress": model.random.choice(_RATES)} if limited else {}
    space = Netns(f"{model.node.host.name}-{name}")
    subprocess.run(["ip", "netns", "add", space.name], check=True)
    space.ip("link set lo up")
    return Newcomer(name, kind, space, limits)


def note(model: Model, new: Newcomer, answer: Answer) -> None:
    """Take note of an ADD that succeeded."""
    assert answer.status == 0, answer.body
    model.containers[new.name] = Container(
        new.name, new.kind, new.space, answer.body, dict(new.limits)
    )


def end_space(space: Netns) -> None:
    subprocess.run(["ip", "netns", "del", space.name], check=True)


def detach(model: Model, container: Container) -> None:
    model.node.delete(container.name, container.space, **model.keys(container.kind))
    end_space(container.space)
    del model.containers[container.name]


# --- steps ----------------------------------------------------------------------------------------


def add(model: Model) -> str:
    if len(model.containers) >= MOST_CONTAINERS:
        return delete(model)
    new = newcomer(model)
    note(model, new, new.add(model))
    return f"{new.name}, {new.kind.name}"


def add_several(model: Model) -> str:
    """ADD some at once, with the DEL of others between them."""
    news = [newcomer(model) for _ in range(min(_AT_ONCE, MOST_CONTAINERS - len(model.containers)))]
    chosen = list(model.containers.values())
    going = model.random.sample(chosen, min(2, len(chosen)))
    work: Sequence[Callable[[], Answer | None]] = [
        *(lambda new=new: new.add(model) for new in news),
        *(lambda each=each: detach(model, each) for each in going),
    ]
    with ThreadPoolExecutor(len(work) or 1) as pool:
        answers = list(pool.map(lambda one: one(), work))
    for new, answer in zip(news, answers, strict=False):
        assert answer
        note(model, new, answer)
    return f"{[new.name for new in news]}, without {[each.name for each in going]}"


def delete(model: Model) -> str:
    container = model.choose()
    detach(model, container)
    return container.name


def delete_without_namespace(model: Model) -> str:
    """The sandbox is gone before its DEL comes."""
    container = model.choose()
    end_space(container.space)
    model.node.delete(container.name, **model.keys(container.kind))
    del model.containers[container.name]
    return container.name


def repeat(model: Model) -> str:
    """What was done already: a second ADD is refused, a second DEL succeeds."""
    container = model.choose()
    keys = model.keys(container.kind)
    answer = model.node.call("ADD", container.name, container.space, **keys)
    assert (answer.status, answer.body["code"]) == (1, 4), answer.body
    model.node.delete(f"{container.name}-never", container.space, **keys)
    return container.name


def check(model: Model) -> str:
    container = model.choose()
    keys = model.keys(container.kind) | {"prevResult": container.result}
    answer = model.node.call("CHECK", container.name, container.space, **keys)
    assert answer.status == 0, answer.body
    return container.name


def collect_garbage(model: Model) -> str:
    """GC of a network, of which some are garbage."""
    here = list(model.of(PODS))
    garbage = model.random.sample(here, min(len(here), model.random.randrange(3)))
    stay = [each.name for each in here if each not in garbage]
    keys = model.keys(KINDS[0]) | valid(*stay)
    answer = model.node.call("GC", **keys)
    assert answer.status == 0, answer.body
    for each in garbage:
        end_space(each.space)
        del model.containers[each.name]
    return f"of {[each.name for each in garbage]}"


def change_bandwidth(model: Model) -> str:
    container = model.choose()
    way = model.random.choice(("ingress", "egress"))
    rate = model.random.choice((0, *_RATES))
    words = ("bandwidth", container.port, f"--{way}", str(rate))
    done = CliRunner().invoke(cli, ["--socket", str(model.node.socket), *words])
    assert done.exit_code == 0, done.output
    container.limits.pop(way, None)
    if rate:
        container.limits[way] = rate
    return f"{container.name}: {way} {rate}"
