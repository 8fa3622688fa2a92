"""What becomes of a call to a service that no link takes at once: every situation there is, against the rules."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from duplex.engine.calling import Resolution, Situation, resolve

R = Resolution
FIELDS = Situation.__struct_fields__


def situation(facts: str) -> Situation:
    return Situation(**{f"is_{fact}": True for fact in facts.split()})


#: What is known; what becomes of a call that waits for a link; and of one with ``wait_for_ready=False``.
TABLE = [
    ("", R.ALONE, R.ALONE),
    ("linked", R.NOT_OFFERED, R.NOT_OFFERED),
    ("connecting", R.WAIT, R.NOT_READY),
    ("connecting hopeful", R.WAIT, R.WAIT),
    ("connecting linked", R.WAIT, R.NOT_READY),
    ("connecting hopeful linked", R.WAIT, R.WAIT),
    ("bound", R.WAIT, R.NOT_READY),
    ("bound linked", R.WAIT, R.NOT_READY),
    ("resolving", R.WAIT, R.WAIT),
    ("resolving linked", R.WAIT, R.WAIT),
    ("resolving linked bound", R.WAIT, R.WAIT),
    ("followed", R.WAIT, R.NOT_READY),
    ("followed linked", R.WAIT, R.NOT_READY),
    ("followed linked draining", R.DRAINING, R.DRAINING),
    ("broken linked", R.BROKEN, R.BROKEN),
    ("broken full linked connecting hopeful resolving bound", R.BROKEN, R.BROKEN),
    ("broken draining linked", R.BROKEN, R.BROKEN),
    ("full linked", R.FULL, R.FULL),
    ("full linked connecting", R.FULL, R.FULL),
    ("full linked draining", R.FULL, R.FULL),
    ("draining", R.DRAINING, R.DRAINING),
    ("draining linked", R.DRAINING, R.DRAINING),
    ("draining bound linked", R.DRAINING, R.DRAINING),
    ("draining resolving linked", R.DRAINING, R.DRAINING),
    ("draining connecting linked", R.WAIT, R.NOT_READY),
    ("closed", R.CLOSED, R.CLOSED),
    ("closed linked full broken connecting hopeful resolving bound", R.CLOSED, R.CLOSED),
]


@pytest.mark.parametrize(("facts", "patient", "impatient"), TABLE, ids=[row[0] or "nothing" for row in TABLE])
def test_what_becomes_of_a_call(facts: str, patient: Resolution, impatient: Resolution) -> None:
    assert resolve(situation(facts), wait_for_ready=True) is patient
    assert resolve(situation(facts), wait_for_ready=False) is impatient


def test_every_situation() -> None:
    """What holds whatever else is known."""
    for values in itertools.product((False, True), repeat=len(FIELDS)):
        known = Situation(**dict(zip(FIELDS, values, strict=True)))
        patient = resolve(known, wait_for_ready=True)
        impatient = resolve(known, wait_for_ready=False)
        # Which error a call fails with is another question than whether it does.
        other = msgspec.structs.replace(known, is_unauthenticated=not known.is_unauthenticated)
        assert resolve(other, wait_for_ready=True) is patient
        assert patient is not R.NOT_READY
        assert impatient is patient or (patient, impatient) == (R.WAIT, R.NOT_READY)
        # Only what is certain is told as "nobody offers it": everybody who could be linked is.
        if patient is R.NOT_OFFERED:
            assert known == Situation(
                is_linked=True, is_hopeful=known.is_hopeful, is_unauthenticated=known.is_unauthenticated
            )
        if patient is R.FULL:
            assert known.is_full


@pytest.mark.parametrize(
    "facts", ["connecting", "bound", "resolving", "draining", "closed", "resolving bound"]
)
def test_links_to_other_services_make_no_difference(facts: str) -> None:
    """To be linked to a registry, say, is no reason to be told that there is no such service."""
    for wait_for_ready in (False, True):
        alone = resolve(situation(facts), wait_for_ready=wait_for_ready)
        assert resolve(situation(f"{facts} linked"), wait_for_ready=wait_for_ready) is alone
