"""What other peers say reaches the log escaped and bounded, and what repeats is counted."""

from __future__ import annotations

import io
import logging

import pytest

import duplex
from duplex.engine._log import BRIEF, MOST_KINDS, MOST_TEXT, MOST_TRACEBACK, WHOLE, WINDOW, Bounded, clean
from tests.engine.helpers import linked

EVIL = "mallory\n2026-01-01 ERROR duplex: all is lost \x1b[31m\u2028\x85"


class Written:
    """A log of its own: its logger, what was written to it, and its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._stream = io.StringIO()
        self.logger = logging.Logger("own")
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        self.logger.addHandler(handler)
        self.bounded = Bounded(lambda: self.now)
        self.logger.addFilter(self.bounded)

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()


@pytest.fixture
def log() -> Written:
    return Written()


def test_texts_are_escaped(log: Written) -> None:
    log.logger.warning("%s said %r and %d %s %s", EVIL, ValueError(EVIL), 7, None, ValueError(EVIL))
    (line,) = log.lines
    assert line.startswith(r"WARNING: mallory\n2026-01-01 ERROR duplex: all is lost \x1b[31m\u2028\x85 said ")
    assert line.isprintable()
    assert " and 7 None mallory" in line


def test_texts_are_bounded(log: Written) -> None:
    log.logger.warning("%s; %s", "a" * 10**6, ValueError("b" * 10**6))
    (line,) = log.lines
    assert line == (
        f"WARNING: {'a' * MOST_TEXT}... (1000000 characters); {'b' * MOST_TEXT}... (1000000 characters)"
    )


def fail(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_tracebacks_cannot_begin_a_record(log: Written) -> None:
    log.logger.error("it failed", exc_info=fail(EVIL))
    first, *rest = log.lines
    assert first == "ERROR: it failed"
    assert rest[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") and line.isprintable() for line in rest)
    assert any("all is lost" in line for line in rest)


def test_tracebacks_are_bounded(log: Written) -> None:
    log.logger.error("it failed", exc_info=fail("x" * 10**6))
    text = "\n".join(log.lines)
    assert len(text) < MOST_TRACEBACK + 1000
    assert "Traceback" in text
    assert "characters)" in text


def test_what_repeats_is_counted(log: Written) -> None:
    for number in range(WHOLE + 30):
        log.logger.warning("%s again", number)
    log.logger.warning("something else")
    assert log.lines == [*(f"WARNING: {number} again" for number in range(WHOLE)), "WARNING: something else"]
    log.now = WINDOW
    log.logger.warning("%s again", "now")
    assert log.lines[-1] == "WARNING: now again (30 more like this were not logged before it)"
    log.logger.warning("%s again", "and")
    assert log.lines[-1] == "WARNING: and again"


def test_errors_that_repeat_lose_their_traceback_first(log: Written) -> None:
    for number in range(WHOLE + BRIEF + 5):
        log.logger.error("incident %s", number, exc_info=fail("oh\nno"))
    text = "\n".join(log.lines)
    assert text.count("Traceback") == WHOLE
    assert text.count("ERROR: incident") == WHOLE + BRIEF
    assert log.lines[-1] == rf"ERROR: incident {WHOLE + BRIEF - 1}: ValueError: oh\nno"


def test_what_an_application_logs_here_is_bounded_too(log: Written) -> None:
    log.logger.warning(["no", "text"])
    for number in range(3 * MOST_KINDS):
        log.logger.warning(f"text {number}")
    assert len(log.lines) == 1 + 3 * MOST_KINDS
    assert len(log.bounded._kinds) <= MOST_KINDS


def test_clean() -> None:
    assert clean("plain ünïcode 漢字") == "plain ünïcode 漢字"
    assert clean("a\tb") == r"a\tb"


async def test_a_name_cannot_write_a_line(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("svc")

    @service.rpc
    async def nothing() -> None: ...

    async with linked(service, client={"name": EVIL}) as pair:
        await pair.link.service("svc").missing.notify(EVIL)
        await pair.link.service("svc").nothing()
        (server_link,) = pair.server.links
        assert server_link.peer_name.isprintable()
        assert repr(server_link).isprintable()
    records = [record for record in caplog.records if record.name == "duplex"]
    assert any("mallory" in record.getMessage() for record in records)
    assert all(record.getMessage().isprintable() for record in records)
