"""Sizes in the agent's YAML, with and without a unit."""

import pytest

from cni_virtio.config import parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("512Mi", 512 << 20),
        ("512MiB", 512 << 20),
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("2Ti", 2 << 40),
        ("64Ki", 64 << 10),
        ("1k", 1000),
        ("1K", 1000),
        ("1M", 10**6),
        ("3G", 3 * 10**9),
    ],
)
def test_sizes(text: str | int, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "Mi", "-1", "1 Mi", "1mi", "1Pi", "1e9", "x", -5, "1Mi\n2"])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(ValueError, match="is not a size in bytes"):
        parse_size(text)
