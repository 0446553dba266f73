"""Something that is done once, by whoever has to wait anyway."""

from __future__ import annotations

from collections.abc import Callable


class Errand:
    """A call that is made when `run` or `result` is called first. Its failure waits for `result`.

    Whoever runs it amid something else is not disturbed by that.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._begun = False
        self._error: Exception | None = None

    def run(self) -> None:
        """Make the call, unless it was made."""
        if self._begun:
            return
        self._begun = True
        try:
            self._call()
        except Exception as error:
            self._error = error

    def result(self) -> None:
        """Make the call, unless it was made, and raise what it raised."""
        self.run()
        if self._error is not None:
            raise self._error
