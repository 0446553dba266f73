"""The messages of the Container Runtime Interface (runtime.v1) that the tests use."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

PACKAGE = "runtime.v1"

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
}

# Message, then its fields: number, type ("*" after it: repeated), name. What is not used is left
# out, which the wire format allows; an enum is an int32 there, a map a list of pairs.
_MESSAGES = {
    "PortMapping": "1 int32 protocol, 2 int32 container_port, 3 int32 host_port, 4 string host_ip",
    "PodSandboxMetadata": "1 string name, 2 string uid, 3 string namespace, 4 uint32 attempt",
    "LinuxPodSandboxConfig": "1 string cgroup_parent",
    "Annotation": "1 string key, 2 string value",
    "PodSandboxConfig": "1 PodSandboxMetadata metadata, 2 string hostname, 3 string log_directory,"
    " 5 PortMapping* port_mappings, 7 Annotation* annotations, 8 LinuxPodSandboxConfig linux",
    "RunPodSandboxRequest": "1 PodSandboxConfig config",
    "RunPodSandboxResponse": "1 string pod_sandbox_id",
    "PodSandboxStatusRequest": "1 string pod_sandbox_id",
    "PodIP": "1 string ip",
    "PodSandboxNetworkStatus": "1 string ip, 2 PodIP* additional_ips",
    "PodSandboxStatus": "1 string id, 3 int32 state, 5 PodSandboxNetworkStatus network",
    "PodSandboxStatusResponse": "1 PodSandboxStatus status",
    "StopPodSandboxRequest": "1 string pod_sandbox_id",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "1 string pod_sandbox_id",
    "RemovePodSandboxResponse": "",
    "ImageSpec": "1 string image",
    "ContainerMetadata": "1 string name, 2 uint32 attempt",
    "ContainerConfig": "1 ContainerMetadata metadata, 2 ImageSpec image, 3 string* command",
    "CreateContainerRequest": "1 string pod_sandbox_id, 2 ContainerConfig config,"
    " 3 PodSandboxConfig sandbox_config",
    "CreateContainerResponse": "1 string container_id",
    "StartContainerRequest": "1 string container_id",
    "StartContainerResponse": "",
    "ExecSyncRequest": "1 string container_id, 2 string* cmd, 3 int64 timeout",
    "ExecSyncResponse": "1 bytes stdout, 2 bytes stderr, 3 int32 exit_code",
    "StatusRequest": "",
    "RuntimeCondition": "1 string type, 2 int32 status, 3 string reason, 4 string message",
    "RuntimeStatus": "1 RuntimeCondition* conditions",
    "StatusResponse": "1 RuntimeStatus status",
}


def encode(name: str, body: dict[str, Any]) -> bytes:
    """Give the wire form of a message whose fields are named as in the table."""
    message = _class(name)()
    json_format.ParseDict(body, message)
    data: bytes = message.SerializeToString()
    return data


def decode(name: str, data: bytes) -> dict[str, Any]:
    """Give the fields of a message; those without a value have their type's empty one."""
    message = _class(name)()
    message.ParseFromString(data)
    body: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return body


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(", ")):
            number, kind, field_name = text.split()
            field = message.field.add(name=field_name, number=int(number))
            repeated = kind.endswith("*")
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            _set_type(field, kind.removesuffix("*"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


_POOL = _pool()
