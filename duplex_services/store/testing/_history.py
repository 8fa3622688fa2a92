"""Clients that read and write one key as fast as they can, and write down what they saw."""

from __future__ import annotations

import math
import random
import time

import msgspec

from duplex_services.store._model import (
    Condition,
    Conflict,
    Missing,
    Refused,
    StoreError,
    Unavailable,
    Unchanged,
)
from duplex_services.store._store import Store
from duplex_services.store.testing._linear import Operation


async def record(store: Store, key: str, client: str, count: int, seed: int) -> list[Operation]:
    """Make operations on a key, one after the other, each on condition of what the one before saw.

    Args:
        store: where.
        key: which; other clients use it at the same time.
        client: a name that no other has; values are made of it.
        count: how many.
        seed: of the choice among reading, writing and deleting.
    """
    chance = random.Random(seed)
    history: list[Operation] = []
    seen: tuple[str | None, int] = (None, 0)
    for number in range(count):
        called = time.monotonic()
        if chance.random() < 0.4:
            try:
                entry = await store.get(key)
            except StoreError:
                continue
            seen = (None, 0) if entry is None else (entry.value.decode(), entry.modified)
            history.append(Operation("get", called, time.monotonic(), "ok", seen[0], client=client))
            continue
        value = None if seen[0] is not None and chance.random() < 0.4 else f"{client}.{number}"
        operation, seen = await _set(store, key, seen, value, called)
        if operation is not None:
            history.append(msgspec.structs.replace(operation, client=client))
    return history


async def _set(
    store: Store, key: str, seen: tuple[str | None, int], value: str | None, called: float
) -> tuple[Operation | None, tuple[str | None, int]]:
    expected, modified = seen
    condition: Condition = Missing(key) if expected is None else Unchanged(key, modified)
    try:
        if value is None:
            revision = await store.commit(deletes=[key], when=[condition])
        else:
            revision = await store.commit({key: value.encode()}, when=[condition])
    except Conflict as conflict:
        found = conflict.found
        after = (None, 0) if found is None else (found.value.decode(), found.modified)
        return Operation("set", called, time.monotonic(), "conflict", value, expected), after
    except (Refused, Unavailable):
        return None, seen
    except StoreError:
        return Operation("set", called, math.inf, "unknown", value, expected), seen
    return Operation("set", called, time.monotonic(), "ok", value, expected), (
        value,
        0 if value is None else revision,
    )


def read_history(text: bytes) -> list[Operation]:
    """Read what another process wrote down."""
    decoder = msgspec.json.Decoder(_Written)
    return [decoder.decode(line).operation() for line in text.splitlines() if line.startswith(b"{")]


class _Written(msgspec.Struct, frozen=True):
    """An :class:`Operation` in JSON, which has no infinity."""

    kind: str
    called: float
    returned: float | None
    outcome: str
    value: str | None
    expected: str | None
    client: str

    def operation(self) -> Operation:
        given = {
            **msgspec.structs.asdict(self),
            "returned": math.inf if self.returned is None else self.returned,
        }
        return msgspec.convert(given, Operation)
