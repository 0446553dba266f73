"""Giving back an attachment's addresses when no DEL of the runtime's does it."""

from __future__ import annotations

import json

from cni_virtio import ipam, netconf
from cni_virtio.spec import Request
from cni_virtio.state import Attachment


def free(attachment: Attachment, cni_path: str = "") -> None:
    """Run the IPAM plugin's DEL with what its ADD was given, found along `cni_path` if given.

    Does nothing for one that was adopted from a dataplane, which knows nothing of IPAM. Raises
    CniError.
    """
    if not attachment.netconf:
        return
    stdin = json.dumps(attachment.netconf).encode()
    env = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_IFNAME": attachment.ifname,
        "CNI_NETNS": "",
        "CNI_ARGS": attachment.cni_args,
        "CNI_PATH": cni_path or attachment.cni_path,
    }
    ipam.delegate("DEL", netconf.parse(stdin, lenient=True), Request.parse(env, stdin))
