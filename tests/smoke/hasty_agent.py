"""An agent that looks for gone sandboxes and changed MACs ten times as often as others do.

What it does about them is the same; how long others take to look is for tests/runtimes to see.
"""

from __future__ import annotations

import sys
from typing import Final

from cni_virtio import collector, mac_watch
from cni_virtio.__main__ import main

_PERIOD_S: Final = 0.5

if __name__ == "__main__":
    for module in (collector, mac_watch):
        assert "_PERIOD_S" in vars(module)
        vars(module)["_PERIOD_S"] = _PERIOD_S
    sys.exit(main())
