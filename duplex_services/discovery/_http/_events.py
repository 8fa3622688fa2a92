"""What a stream of events tells: batches of the view's as discoverd's events, to one who knows of no states and no resets."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from duplex_services.discovery._http._words import instance_words, leader_words, metadata_words
from duplex_services.discovery._model import Batch, Change, Instance, Position
from duplex_services.discovery._rules._mirror import Mirror
from duplex_services.discovery._rules._selecting import Filter, misses

#: Kinds of events that each stream tells.
OF_INSTANCES: Final = frozenset({"up", "update", "down"})
OF_LEADER: Final = frozenset({"leader"})
EVERYTHING: Final = OF_INSTANCES | OF_LEADER | {"service_meta"}

#: Says that the connection is there.
SILENCE: Final = b":\n"


class Teller:
    """What is told to one reader.

    An instance that does not serve any more is *down* for it, and *up* when it does again, unless it asked for those in
    whatever state. When all begins anew, it is told what has become different.

    Args:
        service: of which service.
        kinds: of events.
        wanted: which instances.
        is_v1: whether to mark each position, and when all was told that is known.
        resumes: it has been told before up to a position, what is not known here.
    """

    def __init__(
        self, service: str, kinds: frozenset[str], wanted: Filter, *, is_v1: bool, resumes: bool = False
    ) -> None:
        self._service = service
        self._kinds = kinds
        self._wanted = wanted
        self._is_v1 = is_v1
        self._mirror = Mirror(is_partial=resumes)
        self._is_first = True

    def tell(self, batch: Batch) -> bytes:
        """Return the events of a batch."""
        events: list[dict[str, Any]] = []
        if self._mirror.is_partial and batch.reset:
            # What it was told before is not known here, so the difference is not either.
            events.append({"service": self._service, "kind": "reset"})
        for change in self._mirror.take(batch):
            event = self._event(change)
            if event is not None:
                events.append(event)
        if batch.current and self._is_first:
            self._is_first = False
            if self._is_v1 or self._kinds == EVERYTHING:
                events.append({"service": self._service, "kind": "current"})
        if not events:
            return b""
        mark = b""
        if batch.current and self._is_v1:
            mark = f"id: {batch.status.origin}:{batch.status.as_of}\n".encode()
        words = [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events]
        return b"".join([*words[:-1], mark, words[-1]])

    def _event(self, change: Change) -> dict[str, Any] | None:
        event: dict[str, Any] = {"service": change.service, "kind": change.kind}
        if change.kind in OF_INSTANCES:
            kind, instance = self._seen(change)
            if not kind or kind not in self._kinds or instance is None:
                return None
            return {**event, "kind": kind, "instance": instance_words(instance)}
        if change.kind == "leader" and "leader" in self._kinds:
            leader = change.leader
            if leader is not None and leader.instance is not None:
                event["instance"] = leader_words(leader, leader.instance, is_v1=self._is_v1)
            return event
        if change.kind == "metadata" and "service_meta" in self._kinds:
            event["kind"] = "service_meta"
            if change.metadata is not None:
                event["service_meta"] = metadata_words(change.metadata)
            return event
        return None

    def _seen(self, change: Change) -> tuple[str, Instance | None]:
        """Return what a change is to who sees only the wanted instances."""
        before, now = self._of(change.before), self._of(change.instance)
        if before is None:
            return ("up" if now is not None else ""), now
        if now is None:
            return "down", before
        return ("update" if before != now else ""), now

    def _of(self, instance: Instance | None) -> Instance | None:
        if instance is None or not (self._wanted.everything or instance.serves):
            return None
        return None if any(misses(instance, self._wanted)) else instance


def read_position(text: str) -> Position | None:
    """Return the position that a client has kept; ``None`` if it is none."""
    origin, _, index = text.rpartition(":")
    if not origin or not (index.isascii() and index.isdigit() and len(index) < 19):
        return None
    return Position(origin, int(index))
