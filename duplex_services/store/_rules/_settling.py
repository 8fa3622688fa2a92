"""What became of a commit whose answer did not come.

A copy of it may be on its way still, and take effect after commits that came later. Each client therefore has *writer's
keys*: every commit puts one of them, with a mark of its own, on condition that it is as the commit before left it. So

- a copy that is sent again either succeeds, and then the first one never can; or it finds the mark, and then the first one
  did; and the revision that put the mark is the commit's;
- what is refused for another reason may still happen (a ``missing`` that holds again): the writer's key is *burnt*, put
  with another mark, before that answer counts.

Nothing newer is sent before all this is over: no late copy comes after it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from duplex_services.store._backend import Outcome
from duplex_services.store._model import Commit, Conflict, Missing, Refused, Unavailable, Unchanged, Unknown

_BURNT: Final = b" burnt"


class Sent(msgspec.Struct, frozen=True):
    """A commit that is being made.

    Attributes:
        slot: its writer's key.
        modified: the revision that put that key last, as far as is known; ``None``: it is not there.
        mark: what this commit puts there.
        in_doubt: whether a copy may be on its way.
        verdict: what to answer when the slot is burnt; ``None`` while it need not be.
    """

    slot: str
    modified: int | None
    mark: bytes
    in_doubt: bool = False
    verdict: Conflict | Refused | Unavailable | Unknown | None = None


class Settled(msgspec.Struct, frozen=True):
    """A commit of which all is known, or ever will be.

    Attributes:
        outcome: what became of it.
        modified: the revision that put its slot last; ``None``: it is not there.
    """

    outcome: Outcome
    modified: int | None


def burn_of(sent: Sent) -> Commit:
    """Return the commit after which no copy can take effect."""
    condition = Missing(sent.slot) if sent.modified is None else Unchanged(sent.slot, sent.modified)
    return Commit({sent.slot: sent.mark + _BURNT}, when=(condition,))


def give_up(sent: Sent) -> Sent:
    """Stop trying: nobody waits any more for a commit that is in doubt, so it is only made sure that it is over."""
    if sent.verdict is not None:
        return sent
    return msgspec.structs.replace(
        sent, verdict=Unknown("this commit was given up before its outcome was known")
    )


def settle(sent: Sent, outcome: Outcome) -> Sent | Settled:
    """Judge an answer.

    Args:
        sent: what was known when the commit, or if there is a verdict its burning, was sent.
        outcome: how that ended.

    Returns:
        What is known now. If that is :class:`Sent`, it is to be sent again.
    """
    if isinstance(outcome, int):
        return Settled(outcome if sent.verdict is None else sent.verdict, outcome)
    if isinstance(outcome, Conflict) and outcome.condition.key == sent.slot:
        return _judge_slot(sent, outcome)
    if isinstance(outcome, Unknown):
        return msgspec.structs.replace(sent, in_doubt=True)
    if not sent.in_doubt:
        return Settled(outcome, sent.modified)
    if isinstance(outcome, Unavailable) or sent.verdict is not None:
        return sent
    return msgspec.structs.replace(sent, verdict=outcome)


def _judge_slot(sent: Sent, conflict: Conflict) -> Sent | Settled:
    """Judge by the writer's key, which is not as this client left it."""
    found = conflict.found
    modified = None if found is None else found.modified
    if found is not None and found.value == sent.mark:
        return Settled(found.modified, modified)
    if found is not None and found.value == sent.mark + _BURNT and sent.verdict is not None:
        return Settled(sent.verdict, modified)
    if sent.in_doubt:
        lost = "the store was emptied or put back while the outcome of this commit was open"
        return Settled(Unknown(lost), modified)
    # The first copy was refused, as the store was emptied or put back before it: it did not happen.
    return msgspec.structs.replace(sent, modified=modified)
