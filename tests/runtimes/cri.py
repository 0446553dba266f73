"""What a kubelet asks of containerd: pods over the Container Runtime Interface."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from tests.runtimes.cri_messages import PACKAGE, decode, encode
from tests.runtimes.images import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT_S = 60


@dataclass(frozen=True)
class Cri:
    """`cgroup` is the parent of the pods' own."""

    channel: grpc.Channel
    cgroup: str

    def call(self, method: str, **body: Any) -> dict[str, Any]:
        """Call a method of the RuntimeService. Raises grpc.RpcError."""
        call = self.channel.unary_unary(
            f"/{PACKAGE}.RuntimeService/{method}",
            request_serializer=lambda fields: encode(f"{method}Request", fields),
            response_deserializer=lambda data: decode(f"{method}Response", data),
        )
        answer: dict[str, Any] = call(body, timeout=_TIMEOUT_S)
        return answer

    def network_ready(self) -> bool:
        conditions = self.call("Status")["status"]["conditions"]
        return bool({each["type"]: each["status"] for each in conditions}["NetworkReady"])

    @contextmanager
    def pod(
        self,
        name: str,
        *command: str,
        ports: dict[int, int] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Iterator[Pod]:
        """Run a pod with one container; `ports` are the container's ports by the host's."""
        mappings = [
            {"host_port": host, "container_port": inside} for host, inside in (ports or {}).items()
        ]
        metadata = {"name": name, "uid": f"uid-{name}", "namespace": "tests"}
        linux = {"cgroup_parent": self.cgroup}
        config = {
            "metadata": metadata,
            "hostname": name,
            "linux": linux,
            "port_mappings": mappings,
            "annotations": [
                {"key": key, "value": value} for key, value in (annotations or {}).items()
            ],
        }
        sandbox = self.call("RunPodSandbox", config=config)["pod_sandbox_id"]
        pod = Pod(self, sandbox, config)
        try:
            pod.start(*command)
            yield pod
        finally:
            self.call("StopPodSandbox", pod_sandbox_id=sandbox)
            self.call("StopPodSandbox", pod_sandbox_id=sandbox)  # as a kubelet may
            self.call("RemovePodSandbox", pod_sandbox_id=sandbox)


@dataclass
class Pod:
    cri: Cri
    sandbox: str
    config: dict[str, Any]
    container: str = field(default="")

    def start(self, *command: str) -> None:
        """Start the pod's container."""
        config = {"metadata": {"name": "main"}, "image": {"image": IMAGE}, "command": command}
        self.container = self.cri.call(
            "CreateContainer",
            pod_sandbox_id=self.sandbox,
            config=config,
            sandbox_config=self.config,
        )["container_id"]
        self.cri.call("StartContainer", container_id=self.container)

    def addresses(self) -> list[str]:
        """Addresses that the runtime reports."""
        status = self.cri.call("PodSandboxStatus", pod_sandbox_id=self.sandbox)["status"]
        network = status["network"]
        return [network["ip"], *(each["ip"] for each in network["additional_ips"])]

    def execute(self, *words: str) -> str:
        """Run a command in the container and give its standard output."""
        answer = self.cri.call("ExecSync", container_id=self.container, cmd=words, timeout=30)
        printed = base64.b64decode(answer["stdout"]).decode()
        assert answer["exit_code"] == 0, printed
        return printed


@contextmanager
def cri(socket: Path, cgroup: str) -> Iterator[Cri]:
    """Connect to a runtime."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        yield Cri(channel, cgroup)
