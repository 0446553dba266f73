"""Tables that frontends ask for: the last wish is met, whatever happens first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.dataplane_process import needs_engine
from tests.unit.engine_program import answers, build

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_engine


@pytest.mark.parametrize("failures", [0, 3])
def test_tried_until_there_is_memory(tmp_path: Path, failures: int) -> None:
    program = build(tmp_path, "publishing", "publisher.c")
    assert answers(program, [str(failures)], []) == [str(failures + 1)]
