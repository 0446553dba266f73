"""What a port tells of its attachment: enough to rebuild a record that got lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from cni_virtio.attachment import Attachment
from dataplane.specs import MAX_LABEL_BYTES
from dataplane.wire import PortSpec, VhostSpec

_OWN_LABELS: Final = ("name", "netns", "netns_inode", "cni_version", "ips", "gateways")
_TEXT_LABELS: Final = ("cni_path", "cni_args", "mount_path", "device_info_file")
_LABELS_IF_ANY: Final = (*_TEXT_LABELS, "netns_cookie", "netns_unseen", "ip_masq", "ipam")


def labels_of(attachment: Attachment) -> dict[str, str]:
    """Return the labels of an attachment's port: its own, and those that its record is made of."""
    own = {
        "name": attachment.name,
        "netns": attachment.netns,
        "netns_inode": str(attachment.netns_inode),
        "cni_version": attachment.cni_version,
        "ips": " ".join(attachment.ips),
        "gateways": " ".join(attachment.gateways),
    }
    if_any = {label: getattr(attachment, label) for label in _TEXT_LABELS} | {
        "netns_cookie": str(attachment.netns_cookie or ""),
        "netns_unseen": "" if attachment.netns_seen else "true",
        "ip_masq": "true" if attachment.ip_masq else "",
        "ipam": json.dumps(attachment.netconf["ipam"]) if attachment.netconf.get("ipam") else "",
    }
    own |= {label: text for label, text in if_any.items() if 0 < len(text) <= MAX_LABEL_BYTES}
    return dict(cast("Mapping[str, Any]", attachment.labels)) | own


def attachment_of(spec: PortSpec) -> Attachment | None:
    """Rebuild the record of a container's port from the port itself; None if it is not ours."""
    container_id, slash, ifname = spec.name.removeprefix("pod:").rpartition("/")
    missing = [label for label in _OWN_LABELS if label not in spec.labels]
    if spec.role != "container" or not slash or missing or spec.network is None:
        return None
    labels = dict(spec.labels)
    own = {label: labels.pop(label) for label in _OWN_LABELS}
    more = {label: labels.pop(label, "") for label in _LABELS_IF_ANY}
    vhost = spec.vhost or VhostSpec(path="")
    return Attachment(
        name=own["name"],
        network=spec.network,
        container_id=container_id,
        ifname=ifname,
        netns=own["netns"],
        netns_inode=_number(own["netns_inode"]),
        netns_cookie=_number(more["netns_cookie"]),
        netns_seen=more["netns_unseen"] != "true",
        interface="vhost-user" if spec.kind == "vhost" else "kernel",
        mac=spec.mac or "",
        ips=tuple(own["ips"].split()),
        gateways=tuple(own["gateways"].split()),
        mtu=spec.mtu,
        queues=spec.queues,
        queue_size=spec.queue_size,
        spoof_check=spec.spoof_check,
        ip_masq=more["ip_masq"] == "true",
        limits=spec.limits,
        vhost_mode=vhost.mode,
        socket_path=vhost.path,
        uid=vhost.uid,
        gid=vhost.gid,
        mount_path=more["mount_path"],
        device_info_file=more["device_info_file"],
        cni_path=more["cni_path"],
        cni_args=more["cni_args"],
        netconf=_netconf(own, more["ipam"]),
        labels=labels,
        cni_version=own["cni_version"],
        # Not empty, which would mean that its ADD has not come to its end.
        result={"cniVersion": own["cni_version"]},
    )


def _netconf(own: Mapping[str, str], ipam: str) -> Mapping[str, Any]:
    """Rebuild as much of a netconf as it takes to free addresses; {} if IPAM's part is unknown."""
    if not ipam:
        return {}
    conf = {"cniVersion": own["cni_version"], "name": own["name"], "type": "cni-virtio"}
    return conf | {"ipam": json.loads(ipam)}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
