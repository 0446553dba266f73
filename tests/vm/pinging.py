"""A ping in the background, of which no request may stay unanswered."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.smoke.netns import Netns


@contextmanager
def losing_none(space: Netns, address: str) -> Iterator[None]:
    with space.running("ping", "-n", "-q", "-i", "0.05", "-W", "5", address) as process:
        yield
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=20)[0]
    sent, received = re.findall(r"(\d+) (?:packets transmitted|received)", printed)
    # The last one may still be under way.
    assert int(received) >= int(sent) - 1 > 10, printed
