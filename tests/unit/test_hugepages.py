"""Hugepages asked of the kernel, and given back."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cni_virtio.hugepages import Hugepages

PAGE = 2 << 20


class Pool:
    """The kernel's files, of a kernel that has `most` pages at most."""

    def __init__(self, path: Path, total: int, free: int, most: int) -> None:
        self.path, self.most = path, most
        self.used = total - free
        path.mkdir()
        self.set(total)

    def set(self, total: int) -> None:
        total = max(self.used, min(total, self.most))
        (self.path / "nr_hugepages").write_text(f"{total}\n")
        (self.path / "free_hugepages").write_text(f"{total - self.used}\n")

    @property
    def total(self) -> int:
        return int((self.path / "nr_hugepages").read_text())


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    pool = Pool(tmp_path / "pool", total=10, free=4, most=20)
    monkeypatch.setattr(Hugepages, "_write", lambda _self, pages: pool.set(pages))
    return pool


@pytest.fixture
def hugepages(tmp_path: Path, pool: Pool) -> Hugepages:
    return Hugepages(tmp_path, pool.path)


def test_enough_is_left_as_it_is(hugepages: Hugepages, pool: Pool) -> None:
    assert hugepages.provide(4 * PAGE) == ""
    assert pool.total == 10
    hugepages.give_back()
    assert pool.total == 10


def test_what_is_missing_is_added_and_given_back(
    hugepages: Hugepages, pool: Pool, tmp_path: Path
) -> None:
    assert hugepages.provide(8 * PAGE) == ""
    assert pool.total == 14
    assert (tmp_path / "hugepages-added").read_text() == "4"
    Hugepages(tmp_path, pool.path).give_back()  # by an agent that comes later
    assert pool.total == 10
    assert not (tmp_path / "hugepages-added").exists()


def test_pages_in_use_are_not_taken_away(hugepages: Hugepages, pool: Pool) -> None:
    hugepages.provide(8 * PAGE)
    pool.used += 7
    pool.set(14)
    hugepages.give_back()
    assert pool.total == 13


def test_too_few_are_said_and_nothing_is_kept(
    hugepages: Hugepages, pool: Pool, tmp_path: Path
) -> None:
    said = hugepages.provide(40 * PAGE)
    assert "only 14 of 40 hugepages" in said
    assert "reserve them at boot with hugepages=40" in said
    assert pool.total == 10
    assert not (tmp_path / "hugepages-added").exists()


@pytest.mark.parametrize("content", [b"", b"4\xff", b"garbage"])
def test_a_damaged_record_is_said_and_holds_up_nothing(
    content: bytes, hugepages: Hugepages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hugepages-added").write_bytes(content)
    assert hugepages.provide(8 * PAGE) == ""
    assert "hugepages-added is damaged" in caplog.text
    assert (tmp_path / "hugepages-added").read_text() == "4"


def test_a_kernel_without_hugepages_is_said(tmp_path: Path) -> None:
    assert "no hugepages of 2 MiB" in Hugepages(tmp_path, tmp_path / "nothing").provide(PAGE)


def test_pages_that_may_not_be_added_are_not_on_record(
    hugepages: Hugepages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else as many of those that somebody else has reserved would be given back."""

    def refuse(_self: Hugepages, _pages: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Hugepages, "_write", refuse)
    assert "Read-only file system); using ordinary pages" in hugepages.provide(8 * PAGE)
    assert (tmp_path / "hugepages-added").read_text() == "0"


def test_pages_for_one_more_are_added_and_taken_back(hugepages: Hugepages, pool: Pool) -> None:
    assert hugepages.provide(6 * PAGE) == ""
    pool.used += 6
    pool.set(pool.total)
    assert hugepages.add_beside(6 * PAGE) == 6
    assert pool.total == 18
    hugepages.take_back(6)
    assert pool.total == 12
    pool.used -= 6
    pool.set(pool.total)
    hugepages.give_back()  # what was added for the first is still known
    assert pool.total == 10


def test_pages_that_a_killed_agent_has_added_for_one_more_are_taken_back(
    hugepages: Hugepages, pool: Pool, tmp_path: Path
) -> None:
    pool.used = 10
    pool.set(10)
    hugepages.provide(4 * PAGE)
    pool.used += 4
    pool.set(14)
    assert hugepages.add_beside(4 * PAGE) == 4  # by the one that is killed then
    later = Hugepages(tmp_path, pool.path)
    assert later.add_beside(4 * PAGE) == 4
    assert pool.total == 18
    later.take_back(4)
    assert pool.total == 14
    pool.set(18)  # by somebody else
    assert later.add_beside(4 * PAGE) == 0


def test_no_pages_are_added_if_they_do_not_do_for_one_more(
    hugepages: Hugepages, pool: Pool
) -> None:
    assert hugepages.add_beside(15 * PAGE) is None
    assert pool.total == 10
    assert hugepages.add_beside(4 * PAGE) == 0
    assert pool.total == 10
