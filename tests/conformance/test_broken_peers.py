"""Implementations that break one rule fail the scenarios of that rule, and no other."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Set
from typing import Any, Final

import pytest

from duplex.conformance import FAILED, Scenario, Timing, _run
from tests.conformance import mutants
from tests.conformance.helpers import IMPATIENT, PATIENT, SCENARIOS, bound_peer, results_of
from tests.sizes import LONG

pytestmark = pytest.mark.slow

#: One of how many scenarios that a mutant passes is tried.
PASSED_ONE_OF: Final = 8

BINDING: Final = [scenario for scenario in SCENARIOS.values() if scenario.role != "connecting"]


def which(condition: Callable[[Scenario], bool]) -> Set[str]:
    """The scenarios that a rule concerns, where they are too many to list."""
    return {scenario.id for scenario in BINDING if condition(scenario)}


def expects(scenario: Scenario, name: str) -> bool:
    """Whether a scenario waits for a command of some name."""
    return any(pattern[0] == name for step in scenario.steps for pattern in step.get("expect", ()))


def has(scenario: Scenario, verb: str) -> bool:
    """Whether a scenario has a step of some kind."""
    return any(verb in step for step in scenario.steps)


def ids(text: str) -> Set[str]:
    """Ids that share what is before their last part: ``dmtp/6: one two``."""
    found = set()
    for line in text.strip().splitlines():
        prefix, names = line.strip().split(": ")
        found |= {f"{prefix}/{name}" for name in names.split()}
    return found


def pings(scenario: Scenario) -> bool:
    """Whether a scenario waits for PONG."""
    return has(scenario, "alive") or expects(scenario, "PONG")


#: What each mutant fails. That of the first three follows from the scenarios themselves.
EXPECTED: Final[dict[type[mutants.Mutant], Set[str]]] = {
    mutants.NoPong: which(pings),
    # What is left over is found after the commands were acted on.
    mutants.Unasked: which(pings) | ids("dmtp/11: V6-left-over"),
    mutants.SilentViolations: which(
        # What is wrong before the link is open is answered with REFUSE.
        lambda scenario: scenario.handshake and (has(scenario, "broken") or expects(scenario, "GOAWAY"))
    ),
    mutants.NoCredit: ids(
        """
        dmtp/6: credit-at-half no-credit-before-half steady-stream link-credit-of-calls link-credit-of-refused
        dmtp/6: link-credit-of-dropped link-credit-of-broken link-credit-of-overrun
        dmtp/6: held-channels-do-not-starve-calls link-credit-of-cancelled link-credit-of-closed link-credit-of-close
        dmtp/6: notifications-cost-more
        """
    ),
    mutants.EarlyCredit: ids(
        """
        dmtp/1: number-of-an-old-link
        dmtp/5.4: later-commands-are-dropped
        dmtp/6: credit-at-half no-credit-before-half steady-stream no-credit-for-an-ended-direction
        dmtp/11: V13-data
        dmtp/6: attachments-cost link-credit-of-closed
        """
    ),
    mutants.DeafToEnd: ids(
        """
        dmtp/2: order
        dmtp/3: later-fields-of-channel-commands
        dmtp/6: steady-stream link-credit-of-broken no-credit-for-an-ended-direction
        dmtp/10.2: end-without-messages
        dmtp/11: before-the-offence V13-end V18-data-after-end V18-end-twice
        drpc/2: client-streaming bidirectional arguments-in-data end-before-arguments
        drpc/7: receive-channel receive-channel-is-drained
        drpc/7: all-came-before-cancel
        """
    ),
    mutants.DeafToCancel: ids(
        """
        dmtp/3: later-fields-of-cancel longest-text
        dmtp/5.2: cancel-is-answered cancel-in-the-same-batch cancel-before-the-first-message cancel-twice
        dmtp/5.2: opener-cancels
        dmtp/6: link-window only-messages-cost open-waits-for-the-link link-credit-of-cancelled
        dmtp/9: exactly-max-channels
        dmtp/10.1: open-both-ways
        dmtp/10.2: cancel-when-ended
        dmtp/11: V13-cancel V18-responder-cancels
        drpc/5.2: json-throughout
        drpc/6: callback-of-the-implementation withdrawn new-numbers
        drpc/7: own-channels-are-cancelled cancelled-with-its-parent claimed-by-nobody
        drpc/8: cancel
        drpc/9.1: cancelled-beside-another
        drpc/10.2: watch
        drpc/7: cut-short-by-cancel
        """
    ),
    mutants.ClosesTwice: ids(
        """
        dmtp/3: later-fields-of-cancel longest-text
        dmtp/5.2: cancel-is-answered cancel-in-the-same-batch cancel-before-the-first-message cancel-twice
        dmtp/5.2: opener-cancels
        dmtp/6: link-window only-messages-cost open-waits-for-the-link link-credit-of-cancelled
        dmtp/9: exactly-max-channels
        dmtp/10.1: open-both-ways
        dmtp/10.2: cancel-when-ended
        drpc/4: every-status
        drpc/5.2: json-throughout
        drpc/6: callback-of-the-implementation withdrawn new-numbers
        drpc/7: own-channels-are-cancelled named-twice cancelled-with-its-parent claimed-by-nobody
        drpc/8: cancel
        drpc/9.1: cancelled-beside-another
        drpc/10.2: watch
        drpc/10.3: watch
        drpc/7: all-came-before-cancel cut-short-by-cancel
        """
    ),
    mutants.NoParity: ids("dmtp/11: V10"),
    mutants.LosesAttachments: ids("dmtp/11: V6-left-over"),
    mutants.NothingLater: ids(
        """
        dmtp/2: sixteen-levels
        dmtp/3: later-fields-of-hello later-fields-of-link-commands later-fields-of-goaway
        dmtp/3: later-fields-of-channel-commands later-fields-of-cancel later-fields-of-close
        """
    ),
    mutants.ShortestOnly: ids(
        """
        dmtp/2: long-integers long-texts
        dmtp/3.2: duplicate-key
        """
    ),
    mutants.AnswersNotifications: ids(
        """
        dmtp/5.4: no-answer later-commands-are-dropped does-not-count failures-are-silent
        dmtp/6: notifications-cost-more notifications-hold-credit
        dmtp/11: V15 V30
        drpc/2: notify
        drpc/7: with-a-message
        """
    ),
    mutants.NoWindow: ids(
        """
        dmtp/1: a-new-link-is-empty
        dmtp/5.2: directions-are-independent
        dmtp/6: window-of-open window-of-hello window-of-zero only-messages-cost
        dmtp/8: calls-go-on unknown-reason
        drpc/2: unexpected-items
        drpc/7: nested-credit own-channels-are-cancelled
        drpc/8: deadline-of-a-stream
        dmtp/6: attachments-cost
        """
    ),
    mutants.NoLimits: ids(
        """
        dmtp/9: max-message-of-mine max-message-of-mine-in-items max-message-of-mine-in-arguments
        dmtp/9: max-attachments-of-mine max-attachments-of-mine-in-items max-attachments-of-mine-in-arguments
        dmtp/9: max-channels-of-mine max-metadata-of-mine
        drpc/9: refused-without-room
        """
    ),
    mutants.BatchesOfAnySize: ids("dmtp/11: V4"),
    mutants.NeverBegan: ids(
        """
        dmtp/1: number-of-an-old-link
        dmtp/11: before-the-offence V13-data V13-end V13-cancel V13-credit V13-close
        """
    ),
    mutants.AnyCodec: ids(
        """
        dmtp/3.1: dropped-takes-its-frames
        dmtp/5.3: refused-at-once
        dmtp/11: V26 order-of-open
        drpc/9: refused-by-dmtp refused-without-room
        """
    ),
    mutants.NoMetadata: ids(
        """
        dmtp/3.2: metadata-arrives duplicate-key
        dmtp/11: V5-metadata-entries V5-metadata-array V22 V23-key V23-empty-key V23-value order-of-open
        drpc/9.1: other-arguments not-unary
        drpc/9.2: not-resumable
        drpc/9: refused-by-dmtp
        """
    ),
    mutants.NoTrailers: ids(
        """
        dmtp/9: max-metadata-of-mine
        drpc/9: trailers
        drpc/9: refused refused-by-dmtp
        """
    ),
    mutants.NoDeadline: ids(
        """
        drpc/8: deadline deadline-cancels deadline-of-a-stream inherited no-time at-least-one
        drpc/8: deadline-of-the-caller
        drpc/9: refused
        """
    ),
    mutants.NoParent: ids(
        """
        dmtp/5.5: parent
        drpc/6: call-back
        drpc/7: channel-in-a-result own-channels-are-cancelled
        """
    ),
    mutants.NotFoundForUnimplemented: ids(
        """
        dmtp/3: longest-name
        dmtp/11: V11-lower
        drpc/1: unknown-service unknown-method no-dot case last-dot message
        drpc/4: every-status
        drpc/9: refused refused-without-room
        """
    ),
    mutants.UnknownReasonsClose: ids("dmtp/8: idle unknown-reason"),
    mutants.GoawayFromBothSides: ids("dmtp/8: the-leaving-side-may-open idle"),
    mutants.NoResultFlag: ids(
        """
        drpc/6: callback-of-the-implementation
        drpc/7: channel-in-a-result own-channels-are-cancelled
        """
    ),
    mutants.Talkative: ids("drpc/4: unexpected-failure incident"),
    mutants.ForgivingHello: ids(
        """
        dmtp/4: refused-version refused-codec version-before-codec
        dmtp/6: window-of-hello link-window only-messages-cost open-waits-for-the-link result-waits-for-the-link room-for-results
        dmtp/9: max-message-of-mine max-message-of-mine-in-items max-message-of-mine-in-arguments
        dmtp/9: max-attachments-of-mine max-attachments-of-mine-in-items max-attachments-of-mine-in-arguments
        dmtp/9: max-commands-of-mine max-channels-of-mine max-metadata-of-mine
        dmtp/11: V5-hello-codecs V5-hello-limits V9
        drpc/7: own-channels-are-cancelled
        drpc/9: refused-without-room
        """
    ),
    mutants.BigBatches: ids("dmtp/9: max-commands-of-mine"),
    mutants.LargeItems: ids(
        """
        dmtp/9: max-message-of-mine-in-items max-message-of-mine-in-arguments
        dmtp/11: V5-hello-limits
        """
    ),
    mutants.LinkOverrun: ids(
        """
        dmtp/6: link-window open-waits-for-the-link result-waits-for-the-link room-for-results
        """
    ),
    mutants.KeepsCreditOfBroken: ids("dmtp/6: link-credit-of-broken"),
    mutants.OnlyHalfWindows: ids("dmtp/6: held-channels-do-not-starve-calls notifications-hold-credit"),
    mutants.CreditAfterEnd: ids(
        """
        dmtp/5.4: later-commands-are-dropped
        dmtp/6: no-credit-for-an-ended-direction
        """
    ),
    mutants.LastEighth: ids("dmtp/6: room-for-results"),
    mutants.OwnChannelsStay: ids("drpc/7: own-channels-are-cancelled"),
    mutants.AnyParent: ids(
        """
        drpc/6: never-was wrong-parent
        drpc/9: refused
        """
    ),
    mutants.CodecFirst: ids("dmtp/11: order-of-V24"),
    mutants.RoundsDown: ids("drpc/8: at-least-one"),
    mutants.ClosesDrainedLate: ids("drpc/7: receive-channel-is-drained parent-is-over with-a-message"),
    mutants.ManyAttachments: ids(
        """
        dmtp/9: max-attachments-of-mine max-attachments-of-mine-in-items max-attachments-of-mine-in-arguments
        """
    ),
    mutants.RunsWithoutTime: ids(
        """
        drpc/8: no-time
        drpc/9: refused
        """
    ),
    mutants.DeafToEndOfOpen: ids("drpc/7: opened-with-end"),
    mutants.TooMuchCredit: ids(
        """
        dmtp/6: credit-at-half no-credit-before-half steady-stream link-credit-of-calls link-credit-of-refused
        dmtp/6: link-credit-of-dropped link-credit-of-broken link-credit-of-overrun
        dmtp/6: held-channels-do-not-starve-calls link-credit-of-cancelled link-credit-of-closed link-credit-of-close
        dmtp/6: notifications-cost-more
        dmtp/9: exactly-max-message
        dmtp/11: V20-open V20-data V20-attachments V20-close
        drpc/9: refused-by-dmtp
        dmtp/6: attachments-cost
        """
    ),
    mutants.SpeaksAfterClose: ids(
        """
        drpc/4: every-status
        drpc/9: not-refused
        """
    ),
    mutants.ReusesNumbers: ids(
        """
        dmtp/5.1: numbers-of-the-implementation
        drpc/8: at-least-one
        """
    ),
    mutants.SilentRefusals: ids("drpc/9: refused refused-by-dmtp"),
    mutants.AlwaysRefused: ids("dmtp/9: max-metadata-of-mine\ndrpc/9: not-refused refused-without-room"),
    mutants.ReservedTrailers: ids("drpc/9: reserved-trailers"),
    mutants.LosesOnCancel: ids("drpc/7: all-came-before-cancel"),
    mutants.OrderlyCancel: ids("drpc/7: cut-short-by-cancel"),
    mutants.FreeAttachments: ids("dmtp/11: V19-attachments"),
    mutants.AnyClose: ids("dmtp/11: V20-details V23-trailers"),
}


def tried(kind: str, expected: Set[str]) -> list[Scenario]:
    """The scenarios that a mutant has to fail, and some of those that it has to pass: all of them in ``make test-long``,
    and otherwise always the same ones, of each mutant others."""
    return [
        scenario
        for scenario in BINDING
        if LONG or scenario.id in expected or not zlib.crc32(f"{kind} {scenario.id}".encode()) % PASSED_ONE_OF
    ]


def test_every_mutant_is_tried() -> None:
    assert set(EXPECTED) == set(mutants.Mutant.__subclasses__())
    assert set().union(*EXPECTED.values()) <= SCENARIOS.keys()


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
async def test_a_broken_peer_fails_exactly(
    kind: type[mutants.Mutant], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level(logging.CRITICAL, "duplex")
    monkeypatch.setattr(_run, "Sockets", type("Mutants", (mutants.MutantSockets,), {"kind": kind}))
    expected = EXPECTED[kind]
    async with bound_peer() as endpoint:

        async def failing(scenarios: list[Scenario], timing: Timing) -> set[str]:
            results = await results_of(endpoint, scenarios, timing)
            return {name for name, result in results.items() if result.outcome == FAILED}

        failed = await failing(tried(kind.__name__, expected), IMPATIENT)
        # On a busy machine an answer may be late, and what must not come may come later than was waited for.
        doubtful = failed ^ expected
        if doubtful:
            failed -= doubtful
            failed |= await failing([SCENARIOS[name] for name in doubtful], PATIENT)
    assert failed == expected
