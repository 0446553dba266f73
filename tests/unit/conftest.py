"""How long hypothesis tries: shortly and the same in every run, or long and by hand.

`pytest --hypothesis-profile=long --timeout=0 tests/unit` tries 1,000 inputs for each property,
other ones in each run.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Fixtures of the tests with hypothesis are folders and processes that examples may share.
_COMMON = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("short", _COMMON, max_examples=40, derandomize=True, database=None)
settings.register_profile("long", _COMMON, max_examples=1_000)
settings.load_profile("short")
