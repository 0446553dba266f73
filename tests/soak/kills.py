"""Steps in which agent or dataplane end, in every way; what containers have stays."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cni_virtio.ctl.agent_client import AgentError
from tests.smoke.agent import until_gone
from tests.smoke.ports import wait_until
from tests.soak.calls import end_space, newcomer, note
from tests.soak.model import MOST_CONTAINERS, Model
from tests.soak.packets import counting_silence

_BACK_TIMEOUT_S = 20
_TRY_AGAIN_LATER = 11
_LATEST_KILL_S = 0.03


def _expected_ports(model: Model) -> set[str]:
    return {each.port for each in model.containers.values()}


def wait_back(model: Model) -> None:
    """Wait until the dataplane has again what it should have."""

    def is_back() -> bool:
        try:
            dataplane = model.node.status()["dataplane"]
            has_all = _expected_ports(model) <= model.node.ports()
        except AgentError:
            return False
        # The agent may hear of the end of one later than the next one answers.
        return has_all and dataplane["running"] and Path(f"/proc/{dataplane['pid']}").exists()

    wait_until(is_back, "all ports are back", _BACK_TIMEOUT_S)


def _dataplane_pid(model: Model) -> int:
    """Wait until the agent knows the dataplane that answers, and give its process id."""
    wait_back(model)
    pid: int = model.node.status()["dataplane"]["pid"]
    return pid


# --- steps ----------------------------------------------------------------------------------------


def _kill_dataplane(model: Model, number: signal.Signals) -> str:
    pid = _dataplane_pid(model)
    with counting_silence(model, f"dataplane {number.name}", may_lose=True):
        os.kill(pid, number)
        until_gone(pid)
        wait_back(model)
    return number.name


def kill_dataplane(model: Model) -> str:
    return _kill_dataplane(model, signal.SIGKILL)


def abort_dataplane(model: Model) -> str:
    return _kill_dataplane(model, signal.SIGABRT)


def kill_agent(model: Model) -> str:
    """The dataplane goes on alone, and the next agent takes it up."""
    with counting_silence(model, "agent", may_lose=False):
        model.node.end(signal.SIGKILL)
        model.node.start()
        wait_back(model)
    return ""


def kill_both(model: Model) -> str:
    pid = _dataplane_pid(model)
    with counting_silence(model, "both", may_lose=True):
        model.node.end(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        until_gone(pid)
        model.node.start()
        wait_back(model)
    return ""


def restart(model: Model) -> str:
    """Both end in order, and come back."""
    with counting_silence(model, "restart", may_lose=True):
        assert model.node.end() == 0
        model.node.start()
        wait_back(model)
    return ""


def _kill_during_add(model: Model, kill: Callable[[], None], revive: Callable[[], None]) -> str:
    """An ADD while something dies succeeds or says "later"; a DEL then leaves nothing."""
    if len(model.containers) >= MOST_CONTAINERS:
        return "no room"
    new, delay_s = newcomer(model), model.random.uniform(0, _LATEST_KILL_S)
    killer = threading.Timer(delay_s, kill)
    killer.start()
    answer = new.add(model)
    killer.join()
    revive()
    what = f"{new.name}, {new.kind.name}, after {delay_s * 1000:.1f} ms"
    if answer.status == 0:
        note(model, new, answer)
        return f"{what}: attached"
    assert answer.body["code"] == _TRY_AGAIN_LATER, answer.body
    model.node.delete(new.name, new.space, **new.keys(model))
    end_space(new.space)
    return f"{what}: {answer.body['msg']}"


def kill_agent_during_add(model: Model) -> str:
    process = model.node.process
    assert process

    def revive() -> None:
        process.wait()
        model.node.start()
        wait_back(model)

    return _kill_during_add(model, process.kill, revive)


def kill_dataplane_during_add(model: Model) -> str:
    pid = _dataplane_pid(model)

    def revive() -> None:
        until_gone(pid)
        wait_back(model)

    return _kill_during_add(model, lambda: os.kill(pid, signal.SIGKILL), revive)


ALL: Final[tuple[Callable[[Model], str], ...]] = (
    kill_dataplane,
    abort_dataplane,
    kill_agent,
    kill_both,
    restart,
    kill_agent_during_add,
    kill_dataplane_during_add,
)
