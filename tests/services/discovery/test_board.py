"""What ``duplex discovery watch --live`` draws, and that it goes on when discovery is away."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import duplex
from duplex_services.discovery._board import Board, duration, show_board
from duplex_services.discovery._following import News
from duplex_services.discovery._model import (
    Change,
    Instance,
    Kind,
    Leader,
    Metadata,
    ServiceConfig,
    State,
    Status,
)

STATUS = Status("view", 42, "e", 7, 0.3, stale=False)


def instance(id: str, state: State = "passing", service: str = "calc", **more: Any) -> Instance:
    given: dict[str, Any] = {
        "endpoint": f"tcp://10.0.0.1:{len(id)}",
        "host": "10.0.0.1",
        "port": 1,
        "protocol": "duplex",
        "metadata": {},
        "weight": 1,
        "zone": "",
        "note": "",
        "index": 5,
        "ttl": 10.0,
    }
    return Instance(service, id, state=state, **(given | more))


def change(
    kind: Kind, one: Instance | None = None, service: str = "calc", id: str = "", **more: Any
) -> Change:
    return Change(1, 0.0, kind, service, id if one is None else one.id, one, **more)


def news(*changes: Change, status: Status | None = STATUS) -> News:
    return News(changes, status is not None, status)


def test_all_services() -> None:
    board = Board("", 100.0)
    (only,) = board.parts(101.0)[:1]
    assert (only.title, only.is_bad) == ("discovery: no server answers; nothing is known", True)
    board.take(
        news(
            change("config", service="idle", config=ServiceConfig()),
            change("metadata", service="idle", metadata=Metadata(1, 2)),
            change("up", instance("b", index=9)),
            change("up", instance("a")),
            change("leader", id="a", leader=Leader("a", 12, "e")),
        ),
        100.5,
    )
    services, instances = board.parts(105.0)
    assert services.title == "discovery: 2 of 2 serve; as of 42, 0.3 s old"
    assert services.rows == [("calc", "2", "2", "a"), ("idle", "0", "0", "")]
    assert instances.rows == [
        ("calc", "a", "passing", "> 5 s", "fence 12", "tcp://10.0.0.1:1", ""),
        ("calc", "b", "passing", "> 5 s", "", "tcp://10.0.0.1:1", ""),
    ]


def test_how_long_a_state_lasts() -> None:
    board = Board("calc", 0.0)
    board.take(news(change("up", instance("a")), change("up", instance("b"))), 1.0)
    board.take(news(change("update", instance("a", "critical", note="refused"))), 10.0)
    board.take(news(change("up", instance("c", suspect=True))), 12.0)
    # Its weight is not its state.
    board.take(news(change("update", instance("a", "critical", note="refused", weight=3))), 14.0)
    (part,) = board.parts(20.0)
    assert part.title.startswith("calc: 2 of 3 serve")
    assert part.headings[0] == "instance"
    assert [row[:3] for row in part.rows] == [
        ("a", "critical", "10 s"),
        ("b", "passing", "> 20 s"),
        ("c", "passing, suspect", "8 s"),
    ]
    assert part.rows[0][-1] == "refused"
    board.take(news(change("down", id="a"), change("leader", leader=None)), 21.0)
    board.take(news(change("up", instance("a"))), 25.0)
    assert board.parts(26.0)[0].rows[0][:3] == ("a", "passing", "1 s")


def test_what_was_known_stays() -> None:
    board = Board("calc", 0.0)
    board.take(news(change("up", instance("a"))), 1.0)
    board.take(news(status=None), 5.0)
    board.take(news(status=None), 9.0)
    (part,) = board.parts(150.0)
    assert (part.title, part.is_bad) == ("calc: no server answers; what was known 2 min ago", True)
    assert len(part.rows) == 1
    board.take(news(status=msgspec.structs.replace(STATUS, stale=True, trouble="it hangs")), 160.0)
    (part,) = board.parts(160.0)
    assert (part.title, part.is_bad) == ("calc: 1 of 1 serve; as of 42, 0.3 s old, stale: it hangs", True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (180000, "2 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_what_is_no_service_is_told() -> None:
    from duplex_services.discovery import open_directory
    from duplex_services.discovery._serving import open_client, open_server

    async with (
        open_directory("memory:", server="d") as directory,
        open_server(directory, ["memory://*"]) as (_, ends),
        open_client(ends[0]) as peer,
    ):
        with pytest.RaisesGroup(duplex.InvalidArgument):
            await show_board(peer, "NO name", interval=0.1, count=None)
