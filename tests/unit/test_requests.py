"""How requests are read and logged, whatever is in them."""

from __future__ import annotations

import json
import logging
from typing import Any, cast

import pytest

from cni_virtio.framing import CNI_MAGIC, Frame
from cni_virtio.netconf import NetConf
from cni_virtio.requests import Requests
from cni_virtio.spec import CniError, Request
from cni_virtio.timings import Timings

NETCONF = b'{"cniVersion": "1.1.0", "name": "pods", "type": "cni-virtio"}'
ENV = ("CNI_COMMAND=DEL", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0")


class Verbs:
    """Remembers what was asked of it, and fails with what it is told to."""

    def __init__(self, failure: str = "") -> None:
        self.requests: list[Request] = []
        self._failure = failure

    def run(self, request: Request, conf: NetConf) -> None:
        self.requests.append(request)
        if self._failure:
            raise CniError(102, self._failure)


def serve(verbs: Verbs, *variables: str) -> tuple[int, dict[str, Any]]:
    env = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in (*ENV, *variables))
    requests = Requests(cast("Any", verbs), cast("Any", None), Timings())
    status, stdout = requests.serve(Frame(CNI_MAGIC, env, NETCONF))
    return status, json.loads(stdout or b"{}")


def test_of_two_variables_alike_the_first_counts() -> None:
    """As it does for the plugin, which opens CNI_NETNS."""
    verbs = Verbs()
    assert serve(verbs, "CNI_NETNS=/first", "CNI_NETNS=/second")[0] == 0
    assert verbs.requests[0].netns == "/first"


@pytest.mark.parametrize(
    "variable",
    [
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=a\nDEL c2/eth0 in 1.0 ms",
        "TRACEPARENT=00\r\x1b[2J",
        "CNI_ARGS=K8S_POD_NAMESPACE=\u2028\udcff",
    ],
)
@pytest.mark.parametrize("failure", ["", "the plugin said\nDEL c3/eth0 in 1.0 ms"])
def test_a_call_is_one_line_in_the_log(
    variable: str, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        serve(Verbs(failure), variable)
    (message,) = caplog.messages
    assert message.startswith("DEL c1/eth0")
    assert message.isprintable()
