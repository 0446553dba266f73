"""Netconfs for the tests: the smallest, with more keys, and one that is refused."""

import json
from typing import Any

import pytest

from cni_virtio.netconf import NetConf, parse
from cni_virtio.spec import CniError

MINIMAL = {"cniVersion": "1.1.0", "name": "pods", "type": "cni-virtio"}


def conf(**keys: Any) -> NetConf:
    """Read the smallest netconf with these keys."""
    return parse(json.dumps({**MINIMAL, **keys}).encode())


def refusal(stdin: bytes, args: dict[str, str] | None = None) -> CniError:
    """Give the error, of one line, that a netconf gets."""
    with pytest.raises(CniError) as caught:
        parse(stdin, args)
    assert "\n" not in caught.value.msg
    return caught.value


def limited(**bandwidth: object) -> dict[str, Any]:
    """Give the keys by which a runtime asks for limits."""
    return {"runtimeConfig": {"bandwidth": bandwidth}}
