"""What makes the calls of proxies: callers, one around the other, as the options ask."""

from __future__ import annotations

from collections.abc import Callable

from duplex._errors import ConfigurationError
from duplex.client._options import Options
from duplex.client._proxy import CallerFor
from duplex.client._resume import Resuming
from duplex.engine.calling import Caller


def over_any_link(balanced: Callable[[str], Caller], patience: float) -> CallerFor:
    """Return what gives the callers of services, whose calls may take any link.

    Args:
        balanced: gives what makes the calls of a service, by its name.
        patience: seconds within which a stream that was cut off has to be opened again.
    """

    def caller_for(service: str, options: Options) -> Caller:
        caller = balanced(service)
        return Resuming(caller, patience) if options.resume else caller

    return caller_for


def over_one_link(caller: Caller) -> CallerFor:
    """Return what gives the callers of services, whose calls all take the same link."""

    def caller_for(service: str, options: Options) -> Caller:
        if options.resume:
            raise ConfigurationError(
                "a stream over one link ends with the link: resume=True is for peer.service(...), which may take "
                "another one, not for link.service(...)"
            )
        return caller

    return caller_for
