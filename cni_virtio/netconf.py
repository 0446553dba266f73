"""The network configuration on the plugin's stdin, checked and with its defaults filled in."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any, Literal

from cni_virtio import bandwidth
from cni_virtio.capability_args import respelt
from cni_virtio.netconf_json import decode
from cni_virtio.results import DNS
from cni_virtio.schema import Problem, Schema, shown
from cni_virtio.spec import SUPPORTED_VERSIONS, CniError, Code, Result, ResultError
from dataplane.wire import Limits

SCHEMA = Schema("netconf")
VHOST_USER_MAX_QUEUES = 128
_REMEMBERED_BYTES = 4 << 10
_OF_ONE_CALL = (b'"prevResult"', b'"cni.dev/valid-attachments"')
"""With one of these a netconf does not come a second time, or is that of one container."""
_MAC = re.compile(SCHEMA.data["$defs"]["mac"]["pattern"])


@dataclass(frozen=True)
class VhostUser:
    """The socket's `mode` is the application's role; `uid` and `gid` own socket and directory.

    `mount_path` is the folder in which the container sees it, "" if that is the host's.
    """

    mode: Literal["client", "server"] = "client"
    uid: int = 0
    gid: int = 0
    mount_path: str = ""


@dataclass(frozen=True)
class NetConf:
    """One network configuration. `mtu` None means the network's, `ipam_type` None means L2 only.

    `mac` is what the runtime asked for, or None; `ips` likewise (the IPAM plugin reads them
    itself). `valid_attachments` holds (container id, ifname) pairs, None where GC got no list.
    `raw` is the JSON object as it came.
    """

    cni_version: str
    name: str
    type: str
    network: str
    agent_socket: str = "/run/cni-virtio/agent.sock"
    interface: Literal["kernel", "vhost-user"] = "kernel"
    queues: int = 1
    queue_size: int = 256
    mtu: int | None = None
    is_gateway: bool = False
    is_default_gateway: bool = False
    ip_masq: bool = False
    spoof_check: bool = True
    vhost_user: VhostUser = field(default_factory=VhostUser)
    ipam_type: str | None = None
    dns: DNS = field(default_factory=DNS)
    mac: str | None = None
    ips: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    device_info_file: str | None = None
    device_id: str = ""
    prev_result: Result | None = None
    valid_attachments: frozenset[tuple[str, str]] | None = None
    runtime_config: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)


def parse(
    stdin: bytes, cni_args: Mapping[str, str] | None = None, *, lenient: bool = False
) -> NetConf:
    """Read and check a configuration; `cni_args` are those of the request, for MAC and IP.

    `lenient` passes over a prevResult that cannot be read, which DEL can do without.
    Raises CniError: 6 not JSON, 1 cniVersion not supported, 2 unknown key, 7 bad value (4 for a
    bad MAC or IP in CNI_ARGS); the message names key and value.
    """
    checked = _checked if _is_for_many(stdin) else _checked.__wrapped__
    conf, raw = checked(stdin)
    return _build(conf, raw, cni_args or {}, lenient)


def _is_for_many(stdin: bytes) -> bool:
    """Tell whether a netconf may be worth remembering, which takes 15 times its size."""
    return len(stdin) <= _REMEMBERED_BYTES and not any(key in stdin for key in _OF_ONE_CALL)


@functools.lru_cache(maxsize=64)
def _checked(stdin: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Read and check once what a runtime sends for every container of a network, unchanged."""
    raw = decode(stdin)
    _check_version(raw)
    given = respelt(raw)
    problem = SCHEMA.problem(given)
    if problem:
        raise _error(problem)
    conf = SCHEMA.with_defaults(given)
    _check_queues(conf)
    return conf, raw


def reply_version(stdin: bytes) -> str:
    """The version to answer an unusable request in: the one it names if spoken, else the newest."""
    try:
        version = decode(stdin).get("cniVersion")
    except CniError:
        version = None
    return version if version in SUPPORTED_VERSIONS else SUPPORTED_VERSIONS[-1]


def _check_version(raw: Mapping[str, Any]) -> None:
    # Before the schema: a config of another version may well have keys that are unknown here.
    version = raw.get("cniVersion", "0.1.0")  # the spec's first version had no such key
    if isinstance(version, str) and version not in SUPPORTED_VERSIONS:
        spoken = ", ".join(SUPPORTED_VERSIONS)
        msg = f"cniVersion: {shown(version)} is not supported; supported are {spoken}"
        raise CniError(Code.INCOMPATIBLE_VERSION, msg)


def _error(problem: Problem) -> CniError:
    code = Code.UNSUPPORTED_FIELD if problem.unknown_key else Code.INVALID_CONFIG
    return CniError(code, f"{problem.place}: {problem.reason}")


def _check_queues(conf: Mapping[str, Any]) -> None:
    queues = conf["queues"]
    if conf["interface"] == "vhost-user" and queues > VHOST_USER_MAX_QUEUES:
        reason = f"{queues} is more than the maximum of {VHOST_USER_MAX_QUEUES} for vhost-user"
        raise CniError(Code.INVALID_CONFIG, f"queues: {reason}")


def _build(
    conf: Mapping[str, Any], raw: Mapping[str, Any], cni_args: Mapping[str, str], lenient: bool
) -> NetConf:
    runtime = conf["runtimeConfig"]
    return NetConf(
        cni_version=conf["cniVersion"],
        name=conf["name"],
        type=conf["type"],
        network=conf.get("network", conf["name"]),
        agent_socket=conf["agentSocket"],
        interface=conf["interface"],
        queues=conf["queues"],
        queue_size=conf["queueSize"],
        mtu=conf.get("mtu"),
        is_gateway=conf["isGateway"] or conf["isDefaultGateway"],
        is_default_gateway=conf["isDefaultGateway"],
        ip_masq=conf["ipMasq"],
        spoof_check=conf["spoofCheck"],
        vhost_user=_vhost_user(conf["vhostUser"]),
        ipam_type=conf["ipam"].get("type"),
        dns=_dns(conf),
        mac=_mac(conf, cni_args),
        ips=_ips(conf, cni_args),
        limits=_limits(conf),
        device_info_file=runtime.get("CNIDeviceInfoFile"),
        device_id=runtime.get("deviceID") or conf.get("deviceID") or "",
        prev_result=_prev_result(conf, lenient),
        valid_attachments=_valid_attachments(conf),
        runtime_config=runtime,
        raw=raw,
    )


def _vhost_user(conf: Mapping[str, Any]) -> VhostUser:
    return VhostUser(conf["mode"], conf["uid"], conf["gid"], conf.get("mountPath", ""))


def _mac(conf: Mapping[str, Any], cni_args: Mapping[str, str]) -> str | None:
    """The requested MAC: CNI_ARGS are not even looked at where the configuration has one."""
    mac: str | None = conf["runtimeConfig"].get("mac") or conf["args"]["cni"].get("mac")
    by_env = cni_args.get("MAC")
    if not mac and by_env and not _MAC.fullmatch(by_env):
        allowed = SCHEMA.data["$defs"]["mac"]["x-allowed"]
        msg = f"CNI_ARGS: MAC={shown(by_env)} is not {allowed}"
        raise CniError(Code.INVALID_ENVIRONMENT, msg)
    mac = mac or by_env
    return mac.lower() if mac else None


def _ips(conf: Mapping[str, Any], cni_args: Mapping[str, str]) -> tuple[str, ...]:
    by_config = {
        "runtimeConfig.ips": conf["runtimeConfig"].get("ips"),
        "args.cni.ips": conf["args"]["cni"].get("ips"),
    }
    for place, ips in by_config.items():
        for number, text in enumerate(ips or []):
            _check_ip(text, f"{place}[{number}]", Code.INVALID_CONFIG)
    chosen = next((ips for ips in by_config.values() if ips), None)
    if chosen is None:
        chosen = [item.strip() for item in cni_args.get("IP", "").split(",") if item.strip()]
        for text in chosen:
            _check_ip(text, "CNI_ARGS: IP", Code.INVALID_ENVIRONMENT)
    return tuple(chosen)


def _limits(conf: Mapping[str, Any]) -> Limits:
    by_runtime = conf["runtimeConfig"].get("bandwidth")
    place = "bandwidth" if by_runtime is None else "runtimeConfig.bandwidth"
    given = conf.get("bandwidth", {}) if by_runtime is None else by_runtime
    try:
        return bandwidth.limits(given)
    except bandwidth.BandwidthError as error:
        raise CniError(Code.INVALID_CONFIG, f"{place}.{error}") from None


def _check_ip(text: str, place: str, code: Code) -> None:
    try:
        ip_interface(text)
    except ValueError:
        reason = f"{shown(text)} is not an IP address, with or without prefix"
        raise CniError(code, f"{place}: {reason}") from None


def _dns(conf: Mapping[str, Any]) -> DNS:
    """The netconf's, with what the runtime has (the capability's own names of the keys) first."""
    fixed, runtime = DNS.from_json(conf["dns"], "dns"), conf["runtimeConfig"].get("dns") or {}

    def both(key: str, more: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(runtime.get(key) or ()), *more]))

    return DNS(
        nameservers=both("servers", fixed.nameservers),
        domain=fixed.domain,
        search=both("searches", fixed.search),
        options=both("options", fixed.options),
    )


def _prev_result(conf: Mapping[str, Any], lenient: bool) -> Result | None:
    data = conf.get("prevResult")
    if not data:
        return None
    try:
        return Result.from_json(data, "prevResult")
    except ResultError as error:
        if lenient:
            return None
        raise CniError(Code.DECODING_FAILURE, str(error)) from None


def _valid_attachments(conf: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    given = conf.get("cni.dev/valid-attachments")
    if given is None:
        return None
    return frozenset((item["containerID"], item["ifname"]) for item in given)
