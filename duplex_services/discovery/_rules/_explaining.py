"""Why an instance is listed, or is not."""

from __future__ import annotations

from collections.abc import Iterator

from duplex_services.discovery._model import Explanation
from duplex_services.discovery._rules._holding import Held
from duplex_services.discovery._rules._keys import instance_key
from duplex_services.discovery._rules._selecting import NO_FILTER, Filter, misses
from duplex_services.discovery._rules._view import View


def explain(
    view: View, service: str, id: str, now: float, wanted: Filter = NO_FILTER, *, here: str = ""
) -> Explanation:
    """Say why an instance is listed to who asks for something, or is not.

    Args:
        view: what is known.
        service: which service.
        id: which instance.
        now: the time by which orphans and suspects go.
        wanted: what is asked for.
        here: what this server knows of it besides.
    """
    held = view.held(service, id)
    withdrawn = view.withdrawn.get((service, id))
    changes = view.last_changes(service, id)
    if held is None:
        reasons = list(_why_not_there(view, service, id))
        server = "" if withdrawn is None else withdrawn.record.server
        return Explanation(service, id, False, tuple(reasons), None, server, False, changes)
    instance = held.instance
    against = [] if instance.serves or wanted.everything else [_bad_state(held)]
    against += misses(instance, wanted)
    reasons = against + list(_remarks(view, held, now))
    if here:
        reasons.append(here)
    if problem := view.unreadable.get(instance_key(service, id)):
        reasons.append(
            f"what is in the store now makes no sense, so this is what was there before: {problem.why}"
        )
    orphan = (service, id) in view.orphans
    return Explanation(
        service, id, not against, tuple(reasons), instance, held.record.server, orphan, changes
    )


def _why_not_there(view: View, service: str, id: str) -> Iterator[str]:
    if not view.epoch:
        yield "nothing is known yet: the store has not answered"
        return
    if (service, id) in view.withdrawn:
        yield f"it was deregistered, and waits for its server to delete it: {view.withdrawn[service, id].record.note}"
        return
    if problem := view.unreadable.get(instance_key(service, id)):
        yield f"what is in the store makes no sense: {problem.why}"
        return
    changes = view.last_changes(service, id)
    if changes and changes[-1].kind == "down":
        yield f"it is gone since index {changes[-1].index}: {changes[-1].why}"
    elif view.service(service) is None:
        yield f"there is no service {service}"
    else:
        yield f"{service} has no such instance, and none that is remembered"


def _bad_state(held: Held) -> str:
    instance = held.instance
    note = f": {instance.note}" if instance.note else ""
    health = f" (its health is {held.record.health})" if held.record.mode else ""
    return f"it is {instance.state}{note}{health}"


def _remarks(view: View, held: Held, now: float) -> Iterator[str]:
    what = held.instance.service, held.instance.id
    if held.instance.state == "warning":
        yield f"it is listed, with a warning: {held.instance.note or 'no reason was given'}"
    if what in view.suspects:
        yield (
            "it has vanished from the store, which says little, as that was replaced or lost much at once: it stays "
            f"for {max(0.0, view.suspects[what] - now):.1f} s more, unless it comes back"
        )
    elif what in view.orphans:
        yield (
            f"the server {held.record.server} that kept it is gone for {max(0.0, now - view.orphans[what]):.1f} s; "
            "it has not registered at another one yet"
        )
