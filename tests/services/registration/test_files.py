"""Plain processes, as files say them; and what is kept over restarts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import duplex
from duplex_services._shared._background import background
from duplex_services.registration._files import FileSource
from duplex_services.registration._model import Host
from duplex_services.registration._source import SourceError
from duplex_services.registration._state import open_state, read_state
from tests.services.registration.made import container, services, why


async def test_what_files_say_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[web]\nports = [80]\n[db]\nports = [5432, "5432/udp", 9000]\nlabels = {SERVICE_TAGS = "x"}\n')  # fmt: skip
    (tmp_path / "b.txt").write_text("nothing")
    source = FileSource(tmp_path, "owner")
    await source.look()
    assert source.trouble == ""
    found = services(*source.containers or ())
    assert [(one.name, one.address, one.protocol, one.tags) for one in found if one.name == "web"] == [
        ("web", "192.0.2.1:80", "tcp", ())
    ]
    assert {(one.name, one.protocol) for one in found if one.container_name == "db"} == {
        ("db-5432", "tcp"),
        ("db-5432", "udp"),
        ("db-9000", "tcp"),
    }
    assert len({one.id for one in found}) == 4
    # Files of one name on two hosts are two things.
    other = FileSource(tmp_path, "another")
    await other.look()
    assert not {one.id for one in found} & {one.id for one in services(*other.containers or ())}
    before = source.containers
    await source.look()
    assert source.containers is before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[web", "a.toml: "),
        ("[web]\nport = 3", r"\[web\]: .*port"),
        ("[web]\nports = ['x']", r"\[web\]: "),
        ("web = 3", r"\[web\]: "),
    ],
)
async def test_file_that_makes_no_sense_says_what_it_said_before(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[web]\nports = [80]")
    (tmp_path / "b.toml").write_text("[other]\nports = [81]")
    source = FileSource(tmp_path, "owner")
    await source.look()
    before = source.containers
    path.write_text(text)
    await source.look()
    assert source.containers == before
    assert re.search(message, source.trouble), source.trouble
    path.write_text("[web]\nports = [8080]")
    await source.look()
    assert source.trouble == ""
    assert sorted(one.address for one in services(*source.containers or ())) == [
        "192.0.2.1:8080",
        "192.0.2.1:81",
    ]
    path.unlink()
    await source.look()
    assert [one.port for one in services(*source.containers or ())] == [81]


async def test_folder_that_is_away_changes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.toml").write_text("[web]\nports = [80]")
    source = FileSource(folder, "owner")
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    async def until(known: int, trouble: str) -> None:
        while (
            len(source.containers or ()) != known
            or trouble not in source.trouble
            or (not trouble and source.trouble)
        ):
            await trio.sleep(0.1)

    async with background() as nursery:
        nursery.start_soon(source.run, changed)
        await until(1, "")
        assert changes == 1
        folder.rename(tmp_path / "moved")
        await until(1, "No such file")
        (tmp_path / "moved").rename(folder)
        await until(1, "")
        (folder / "a.toml").unlink()
        await until(0, "")
    folder.rmdir()
    with pytest.raises(SourceError, match="No such file"):
        await source.look()


async def test_process_with_an_address_to_tell_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[web]\nports = [80]")
    source = FileSource(tmp_path, "owner")
    await source.look()
    assert why(*source.containers or (), host=Host("h")) == [
        "this host has no address to tell others (--advertise)"
    ]


# -- state -----------------------------------------------------------------------------------------------


def test_owner_stays_and_is_one_registrars(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    assert read_state(folder).owner == "nobody"
    with open_state(folder) as state:
        owner = state.owner
        assert len(owner) == 16
        with pytest.raises(duplex.ConfigurationError, match="another registrar has the state folder"):
            with open_state(folder):
                pass
    with open_state(folder) as state:
        assert state.owner == owner
    assert read_state(folder).owner == owner
    with open_state(tmp_path / "b") as state:
        assert state.owner != owner


def test_what_was_listed_is_kept(tmp_path: Path) -> None:
    listed = {"docker": tuple(services(container(1)))}
    with open_state(tmp_path) as state:
        assert state.services == {}
        state.keep(listed)
        at = (tmp_path / "services.json").stat().st_mtime_ns
        state.keep(dict(listed))
        assert (tmp_path / "services.json").stat().st_mtime_ns == at
    assert read_state(tmp_path).services == listed
    (tmp_path / "services.json").write_text("{")
    with open_state(tmp_path) as state:
        assert state.services == {}


def test_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(duplex.ConfigurationError, match="file"):
        with open_state(tmp_path / "file" / "state"):
            pass
