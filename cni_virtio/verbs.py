"""The CNI verbs, in the spec's order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cni_virtio import ipam, netconf, netns
from cni_virtio.attach import attach
from cni_virtio.check import check
from cni_virtio.descriptors import Descriptors
from cni_virtio.detach import detach, reclaim
from cni_virtio.netconf import NetConf
from cni_virtio.node import Node
from cni_virtio.readiness import check_ready
from cni_virtio.spec import SINCE, SUPPORTED_VERSIONS, CniError, Code, Request, at_least
from cni_virtio.state import Attachment
from cni_virtio.turns import Turns

log = logging.getLogger(__name__)


class Verbs:
    """What each call of the plugin does, in its turn."""

    def __init__(self, node: Node, turns: Turns) -> None:
        self._node = node
        self._turns = turns
        self._descriptors = Descriptors()
        self._verbs: dict[str, Callable[[Request, NetConf], dict[str, Any] | None]] = {
            "ADD": self.add,
            "DEL": self.delete,
            "CHECK": self.check,
            "GC": self.gc,
            "STATUS": self.status,
        }

    def run(self, request: Request, conf: NetConf) -> dict[str, Any] | None:
        """Carry out a request; return what goes to stdout, if anything. Raises CniError."""
        _check_version(request, conf)
        return self._verbs[request.command](request, conf)

    def add(self, request: Request, conf: NetConf) -> dict[str, Any]:
        """Attach a container and return the result."""
        _check_namespace(request)
        with (
            self._turns.of_container(conf.name, request.container_id),
            self._descriptors.for_call(conf.queues),
        ):
            return attach(self._node, request, conf).to_json(conf.cni_version)

    def delete(self, request: Request, conf: NetConf) -> None:
        """Detach a container. Does not wait for a dataplane, and minds nothing that is gone."""
        with self._turns.of_container(conf.name, request.container_id):
            detach(self._node, request, conf)

    def check(self, request: Request, conf: NetConf) -> None:
        """Compare what was reported with what is there."""
        _check_namespace(request)
        with self._turns.of_container(conf.name, request.container_id):
            check(self._node, request, conf)
            ipam.delegate("CHECK", conf, request)

    def gc(self, request: Request, conf: NetConf) -> None:
        """Remove what is attached to this network and not on the list of what is valid.

        Goes on after errors, and reports the first with the number of all.
        """
        valid = _valid_attachments(conf)
        errors: list[CniError] = []
        with self._turns.of_network(conf.name):
            for attachment in self._node.state.all():  # also what an earlier GC could not remove
                if attachment.name == conf.name and attachment.key not in valid:
                    self._collect(attachment, request, conf, errors)
            for step in (
                lambda: ipam.delegate("GC", conf, request),
                lambda: self._node.masquerade.sync(self._node.wanted.all),
            ):
                self._try(step, "", errors)
        if errors:
            more = f" (and {len(errors) - 1} more errors)" if errors[1:] else ""
            details = "\n".join(error.msg for error in errors)
            raise CniError(errors[0].code, f"{errors[0].msg}{more}", details)

    def status(self, request: Request, conf: NetConf) -> None:
        """Say whether an ADD could succeed."""
        check_ready(self._node, request, conf)

    def _collect(
        self, attachment: Attachment, request: Request, conf: NetConf, errors: list[CniError]
    ) -> None:
        log.info("GC of %s: removing %s/%s", conf.name, *attachment.key)
        path = request.env.get("CNI_PATH", "")
        what = f"{'/'.join(attachment.key)}: "
        self._try(lambda: reclaim(self._node, attachment, path), what, errors)

    @staticmethod
    def _try(step: Callable[[], object], what: str, errors: list[CniError]) -> None:
        try:
            step()
        except (CniError, OSError) as error:
            code = error.code if isinstance(error, CniError) else Code.NETWORK_SETUP
            errors.append(CniError(code, f"{what}{error}"))


def _check_namespace(request: Request) -> None:
    """Refuse what is no namespace of a container."""
    fd, path = request.netns_fd, request.netns
    if fd is None:
        msg = f"CNI_NETNS: {path!r} came without an open namespace; is the plugin an older one?"
        raise CniError(Code.INVALID_ENVIRONMENT, msg)
    if not netns.is_netns(fd):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS: {path!r} is no network namespace")
    if netns.identity(fd) == netns.own_identity():
        raise CniError(Code.INVALID_NETNS, f"CNI_NETNS: {path!r} is the host's own namespace")


def _check_version(request: Request, conf: NetConf) -> None:
    since = SINCE.get(request.command)
    if since is not None and not at_least(conf.cni_version, since):
        msg = f"cniVersion: {conf.cni_version} has no {request.command}, which came with {since}"
        raise CniError(Code.INCOMPATIBLE_VERSION, msg)


def _valid_attachments(conf: NetConf) -> frozenset[tuple[str, str]]:
    """Read the list that GC goes by, under its key of today or that of the spec's drafts."""
    if conf.valid_attachments is not None:
        return conf.valid_attachments
    if "cni.dev/valid-attachments" in conf.raw:
        return frozenset()  # null, as libcni writes an empty list
    older = conf.raw.get("cni.dev/attachments")
    if not isinstance(older, list):
        # Without a list nothing may be taken for garbage.
        raise CniError(Code.INVALID_CONFIG, "cni.dev/valid-attachments: is missing, GC needs it")
    try:
        return frozenset((item["containerID"], item["ifname"]) for item in older)
    except (TypeError, KeyError):
        msg = "cni.dev/attachments: must be a list of objects with containerID and ifname"
        raise CniError(Code.INVALID_CONFIG, msg) from None


def reply_version(stdin: bytes, conf: NetConf | None) -> str:
    """Return the spec version to answer in, whether or not the netconf could be read."""
    if conf is not None:
        return conf.cni_version
    return netconf.reply_version(stdin) if stdin else SUPPORTED_VERSIONS[-1]
