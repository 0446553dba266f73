"""Where to listen, as written in the YAML: `127.0.0.1:9477` or `[::1]:9477`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from cni_virtio.results import brief

_FORM = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^:\[\]]*)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class ListenAddress:
    """An IP address of this machine and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Read `ADDRESS:PORT`; raises ValueError saying what is wrong with it."""
        match = _FORM.fullmatch(text)
        if not match:
            raise ValueError(
                f"{brief(text)} is not ADDRESS:PORT, such as 127.0.0.1:9477 or [::1]:9477"
            )
        host, port = match["v4"] if match["v6"] is None else match["v6"], int(match["port"])
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{brief(text)}: {brief(host)} is not an IP address") from None
        if (address.version == 6) != (match["v6"] is not None):
            raise ValueError(
                f"{brief(text)}: an IPv6 address stands in brackets, an IPv4 one does not"
            )
        if not 1 <= port <= 65535:
            raise ValueError(f"{brief(text)}: port {port} is not from 1 to 65535")
        return cls(str(address), port)
