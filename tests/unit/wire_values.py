"""What the tests of the control socket's messages have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from dataplane.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def refusal_of(read: Callable[[Any], object], value: object) -> WireError | None:
    """Give what reading a value is refused with, if it is."""
    try:
        read(value)
    except WireError as e:
        return e
    return None
