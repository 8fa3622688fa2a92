"""What was known of discovery, on disk."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from duplex_services.discovery import _cache
from duplex_services.discovery._cache import Cache, Kept, cache_folder

KEPT = Kept("tcp://a:1 calc", 1000.0, [("tcp://10.0.0.7:1", 2.0, "zone")])


def only_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "deep" / "cache")
    assert cache.read(KEPT.key, 1000.0) is None
    cache.write(KEPT)
    assert cache.read(KEPT.key, 1001.0) == KEPT
    assert cache.read("another", 1001.0) is None
    file = only_file(tmp_path / "deep" / "cache")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    cache.forget(KEPT.key)
    cache.forget(KEPT.key)
    assert cache.read(KEPT.key, 1001.0) is None


def test_what_is_old_says_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEPT)
    assert cache.read(KEPT.key, 1000.0 + _cache.MOST_AGE) == KEPT
    assert cache.read(KEPT.key, 1001.0 + _cache.MOST_AGE) is None


def spoil(file: Path, how: str, tmp_path: Path) -> None:
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[:-5])
    elif how == "flipped":
        file.write_bytes(data.replace(b"10.0.0.7", b"10.6.6.6"))
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "binary":
        file.write_bytes(b"\xff\xfe\n" + data)
    elif how == "large":
        file.write_bytes(b"x" * (_cache.MOST_BYTES + 200))
    elif how == "of others":
        file.chmod(0o622)
    elif how == "a link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif how == "a pipe":
        file.unlink()
        os.mkfifo(file, 0o600)
    else:
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize(
    "how", ["cut", "flipped", "empty", "binary", "large", "of others", "a link", "a pipe", "a folder"]
)
def test_what_is_not_as_it_was_written_is_refused(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    cache = Cache(folder)
    cache.write(KEPT)
    spoil(only_file(folder), how, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert cache.read(KEPT.key, 1001.0) is None
    assert "is not used" in caplog.text
    if how != "a folder":
        cache.write(KEPT)
        assert cache.read(KEPT.key, 1001.0) == KEPT, "the next one takes its place"


def test_a_file_of_another_name_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    cache.write(KEPT)
    only_file(tmp_path).rename(Cache._path(tmp_path, "another"))
    assert cache.read("another", 1001.0) is None
    assert "of something else" in caplog.text


def test_there_are_not_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "MOST_FILES", 3)
    cache = Cache(tmp_path)
    for number in range(6):
        cache.write(Kept(f"{number}", 1000.0, []))
        os.utime(Cache._path(tmp_path, f"{number}"), (number, number))
    assert {number for number in range(6) if cache.read(f"{number}", 1000.0)} == {3, 4, 5}
    cache.write(Kept("4", 1001.0, []))
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_too_much_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(Kept("large", 1000.0, [("tcp://x:1", 1.0, "z" * 100)] * 20_000))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = Cache(tmp_path / "file")
    cache.write(KEPT)
    cache.write(KEPT)
    assert cache.read(KEPT.key, 1000.0) is None
    cache.forget(KEPT.key)
    assert caplog.text.count("cannot be kept") == 1


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    Cache(tmp_path).write(KEPT)
    assert list(tmp_path.iterdir()) == []


def test_where_it_is() -> None:
    assert cache_folder({"DUPLEX_DISCOVERY_CACHE": "off"}) is None
    assert cache_folder({"DUPLEX_DISCOVERY_CACHE": "/x/y"}) == Path("/x/y")
    found = cache_folder({"XDG_STATE_HOME": "/s"})
    assert found is not None
    assert found.parts[-2:] == ("discovery", "cache")
    nowhere = Cache(None)
    nowhere.write(KEPT)
    nowhere.forget(KEPT.key)
    assert nowhere.read(KEPT.key, 0) is None


@pytest.mark.parametrize(
    ("age", "is_used"), [(0, True), (_cache.MOST_AGE - 1, True), (_cache.MOST_AGE + 1, False)]
)
def test_what_is_too_old_says_nothing_whichever_way_the_clock_jumped(
    age: float, is_used: bool, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    kept = Kept("key", 1_700_000_000.0, [("tcp://10.0.0.1:7700", 1.0, "")])
    cache.write(kept)
    for now in (kept.as_of + age, kept.as_of - age):
        assert cache.read("key", now) == (kept if is_used else None)
