"""The suite: every check, one after the other, and what came of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec
import trio

from duplex_services.store._model import MAX_OPERATIONS, last_writer_wins
from duplex_services.store.testing import _checks, _fault_checks, _lease_checks
from duplex_services.store.testing._faults import Faults
from duplex_services.store.testing._tools import Bench, Opener, name

_Check: TypeAlias = Callable[[Bench], Awaitable[None]]


def _checks_of(*modules: object) -> dict[str, _Check]:
    """Return the checks of modules by name, in the order in which they are written."""
    found: dict[str, _Check] = {}
    for module in modules:
        for key, value in vars(module).items():
            kind, _, rest = key.partition("_")
            if getattr(value, "__module__", None) == getattr(module, "__name__", "") and rest:
                if kind == "check":
                    found[rest] = value
                elif kind in Faults.__struct_fields__:
                    found[key] = value
    return found


#: Every check by its name; those that need a fault begin with the name of that.
CHECKS: Final[Mapping[str, _Check]] = MappingProxyType(_checks_of(_checks, _lease_checks, _fault_checks))


class Result(msgspec.Struct, frozen=True):
    """What came of a check.

    Attributes:
        name: of the check.
        seconds: that it took; 0 if it was left out.
        left_out: why it did not run; empty if it did.
    """

    name: str
    seconds: float = 0.0
    left_out: str = ""


async def check_store(
    opener: Opener,
    *,
    only: Collection[str] = (),
    faults: Faults | None = None,
    url: str | None = None,
    ttl: float = 2.0,
    slack: float = 10.0,
    timeout: float = 120.0,
) -> list[Result]:
    """Check that a store keeps the contract of :mod:`duplex_services.store`.

    It may hold other things: each check has keys of its own, and deletes nothing else.

    Args:
        opener: opens a client: ``lambda **options: open_store(URL, **options)``. All that it opens are clients of the
            same store; ``memory:`` needs a name for that.
        only: names of checks, of :data:`CHECKS`; all by default.
        faults: what can be done to the store; checks of the others are left out.
        url: where another process can open it: the history of two processes is then checked, else of two clients.
        ttl: of leases, in seconds: the shortest that this store can.
        slack: seconds that what should happen soon may take here.
        timeout: seconds that each check may take.

    Returns:
        What ran and what did not, in order.

    Raises:
        AssertionError: with the name of the check, and what went otherwise than expected.
        ValueError: there is no check of a name.
    """
    unknown = set(only) - set(CHECKS)
    if unknown:
        raise ValueError(f"no checks: {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    given = faults or Faults()
    results = []
    for check_name, check in CHECKS.items():
        if only and check_name not in only:
            continue
        fault = check_name.partition("_")[0]
        if fault in Faults.__struct_fields__ and getattr(given, fault) is None:
            results.append(Result(check_name, left_out=f"nobody said how to {fault} this store"))
            continue
        began = time.monotonic()
        prefix = f"check/{name()}/"
        async with opener() as one, opener() as two:
            bench = Bench(one, two, opener, prefix, ttl, given, url, slack)
            await _run_one(check_name, check, bench, timeout)
        results.append(Result(check_name, time.monotonic() - began))
    return results


async def _run_one(check_name: str, check: _Check, bench: Bench, timeout: float) -> None:
    try:
        with trio.fail_after(timeout):
            await check(bench)
    except (Exception, BaseExceptionGroup) as error:
        first = _first(error)
        if not isinstance(first, Exception):
            raise
        raise AssertionError(f"{check_name}: {type(first).__name__}: {first}") from error
    finally:
        with contextlib.suppress(Exception):
            await _clean(bench)


async def _clean(bench: Bench) -> None:
    """Delete what a check has left, as far as that can be done."""
    with trio.move_on_after(bench.slack, shield=True):
        keys = [entry.key for entry in (await bench.one.list(bench.prefix)).entries]
        for start in range(0, len(keys), MAX_OPERATIONS):
            await bench.one.commit(deletes=keys[start : start + MAX_OPERATIONS], when=last_writer_wins)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
