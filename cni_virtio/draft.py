"""From a request and its netconf to the attachment that it asks for, checked, still unnumbered."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from cni_virtio import ipam, netns, sandbox
from cni_virtio.config import AgentConfig
from cni_virtio.netconf import NetConf
from cni_virtio.ports import random_mac, uplink_port_name
from cni_virtio.spec import CniError, Code, Request
from cni_virtio.state import Attachment
from cni_virtio.wanted import Wanted

_LONGEST_SOCKET_PATH: Final = 107
_PCI_ADDRESS: Final = re.compile(r"[0-9a-fA-F]{4,}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_FOLDER: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


def draft(config: AgentConfig, wanted: Wanted, request: Request, conf: NetConf) -> Attachment:
    """Return the attachment without addresses. Raises CniError naming key and value."""
    kernel = conf.interface == "kernel"
    if kernel:
        _check_tap(config, request, conf)
    elif ipam.needs_interface(conf.ipam_type):
        msg = f"ipam.type: {conf.ipam_type!r} asks through a kernel interface, vhost-user has none"
        raise CniError(Code.INVALID_CONFIG, msg)
    _check_device(config, wanted, conf)
    return Attachment(
        name=conf.name,
        network=conf.network,
        container_id=request.container_id,
        ifname=request.ifname,
        netns=request.netns,
        **_namespace(request),
        interface=conf.interface,
        mac=conf.mac or random_mac(os.urandom(6)),
        mtu=_mtu(wanted, conf),
        queues=conf.queues,
        queue_size=conf.queue_size,
        spoof_check=conf.spoof_check,
        ip_masq=conf.ip_masq,
        limits=conf.limits,
        vhost_mode=conf.vhost_user.mode,
        socket_path="" if kernel else _socket_path(config, request),
        uid=conf.vhost_user.uid,
        gid=conf.vhost_user.gid,
        mount_path=conf.vhost_user.mount_path,
        device_info_file="" if kernel else conf.device_info_file or "",
        labels=_labels(request, conf),
        cni_version=conf.cni_version,
        cni_path=":".join(request.path),
        cni_args=request.env.get("CNI_ARGS", ""),
        netconf=conf.raw,
    )


def _namespace(request: Request) -> dict[str, Any]:
    fd = request.netns_fd
    if fd is None:
        return {}
    return {
        "netns_inode": netns.identity(fd),
        "netns_cookie": netns.cookie(fd),
        "netns_seen": sandbox.is_visible(request.netns, fd),
    }


def _check_tap(config: AgentConfig, request: Request, conf: NetConf) -> None:
    if reason := config.backend.queues_problem(conf.queues):
        raise CniError(Code.INVALID_CONFIG, f"queues: {reason}")
    if reason := config.backend.ifname_problem(request.ifname):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_IFNAME: {reason}")


def _mtu(wanted: Wanted, conf: NetConf) -> int:
    if conf.mtu is None:
        return wanted.default_mtu(conf.network)
    declared = wanted.declared(conf.network)
    if declared is not None and conf.mtu > declared.mtu:
        reason = f"{conf.mtu} is more than the {declared.mtu} of network {conf.network}"
        raise CniError(Code.INVALID_CONFIG, f"mtu: {reason}")
    return conf.mtu


def _socket_path(config: AgentConfig, request: Request) -> str:
    """Name the socket, in a folder named after the pod or else the container."""
    uid = request.args.get("K8S_POD_UID")
    if uid and not _FOLDER.fullmatch(uid):
        msg = f"CNI_ARGS: K8S_POD_UID={uid!r} cannot be the name of a folder"
        raise CniError(Code.INVALID_ENVIRONMENT, msg)
    folder = config.agent.socket_dir / (uid or request.container_id)
    path = str(folder / f"{request.ifname}.sock")
    size = len(os.fsencode(path))
    if size > _LONGEST_SOCKET_PATH:
        reason = f"{path!r} would have {size} bytes, a socket's path at most {_LONGEST_SOCKET_PATH}"
        raise CniError(
            Code.INVALID_CONFIG, f"agent.socket_dir: {reason}: choose a shorter agent.socket_dir"
        )
    return path


def _check_device(config: AgentConfig, wanted: Wanted, conf: NetConf) -> None:
    """Refuse a PCI device that a device plugin allocated: the container would not get it."""
    if not conf.device_id or not _PCI_ADDRESS.fullmatch(conf.device_id):
        return  # of a device plugin that only counts; shown beside the port
    declared = wanted.declared(conf.network)
    for uplink in config.uplinks:
        carries = declared is not None and declared.uplink == uplink_port_name(uplink.name)
        if carries and uplink.target.lower() == conf.device_id.lower():
            return
    what = f"{conf.device_id!r} is a PCI device other than the uplink of network {conf.network}"
    msg = f"deviceID: {what}: this plugin hands no device to a container, host-device or sriov do"
    raise CniError(Code.INVALID_CONFIG, msg)


def _labels(request: Request, conf: NetConf) -> dict[str, str]:
    """Name the pod for people, and what a device plugin allocated to it."""
    names = {"name": "pod", "namespace": "namespace", "uid": "uid"}
    device = {"device_id": conf.device_id} if conf.device_id else {}
    return {names[key]: value for key, value in request.pod.items()} | device
