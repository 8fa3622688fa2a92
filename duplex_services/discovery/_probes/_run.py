"""From a check to its result."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

import duplex
from duplex_services.discovery._model import Check, CheckKind, Registration
from duplex_services.discovery._rules._monitor import Result
from duplex_services.discovery._rules._targets import target_of

_log: Final = logging.getLogger("duplex")

#: Characters of what a check says.
_MOST_NOTE: Final = 500

#: Where each kind is: what nobody asks for is not imported, nor the library that it needs.
_MODULES: Final[dict[CheckKind, str]] = {
    "tcp": "_tcp",
    "http": "_http",
    "duplex": "_duplex",
    "grpc": "_grpc",
    "command": "_command",
}


async def probe(check: Check, registration: Registration, tls: duplex.TLS | None = None) -> Result:
    """Check an instance once. Raises nothing: what goes wrong is the result.

    Args:
        check: how.
        registration: what; its address is the target unless the check has one.
        tls: for an instance at ``tls://``.
    """
    try:
        target = target_of(check, registration)
        with trio.move_on_after(check.timeout):
            found = await _prober(check.kind, tls)(check, target)
            return Result(found.health, found.note[:_MOST_NOTE])
    except (ValueError, duplex.ConfigurationError) as error:
        return Result("critical", f"{error}"[:_MOST_NOTE])
    except Exception as error:
        # Whatever is wrong with one check is nothing to the others, nor to who makes them.
        _log.exception("a %s check of %r failed", check.kind, check.target)
        return Result("critical", f"the check itself fails: {type(error).__name__}")
    return Result("critical", f"no answer within {check.timeout:g} s")


def _prober(kind: CheckKind, tls: duplex.TLS | None) -> Callable[[Check, str], Awaitable[Result]]:
    try:
        module = importlib.import_module(f"duplex_services.discovery._probes.{_MODULES[kind]}")
    except ModuleNotFoundError as error:
        raise duplex.ConfigurationError(
            f"{kind} checks need the library {error.name}, which is not installed: pip install 'duplex-rpc[discovery]'"
        ) from error
    found: Callable[[Check, str], Awaitable[Result]] = (
        functools.partial(module.probe, tls=tls) if kind == "duplex" else module.probe
    )
    return found
