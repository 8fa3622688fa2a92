"""What makes the calls of proxies: callers, one around the other, as the options ask."""

from __future__ import annotations

from typing import Protocol, final

from duplex._errors import ConfigurationError
from duplex.client._balanced import BalancedServices
from duplex.client._balanced import Host as BalancingHost
from duplex.client._budget import Budgets
from duplex.client._options import Options
from duplex.client._proxy import CallerFor
from duplex.client._resume import Resuming
from duplex.client._retry import Retrying
from duplex.engine.calling import CallCounts, Caller


class Host(BalancingHost, Protocol):
    """What callers have to know of the peer whose calls they make."""

    @property
    def call_counts(self) -> CallCounts:
        """What is counted of its calls."""


@final
class Callers:
    """Gives what makes the calls of one peer.

    Args:
        host: the peer.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._balanced = BalancedServices(host)
        self._budgets = Budgets()

    def over_any_link(self, service: str, options: Options) -> Caller:
        """Return what makes the calls of a service over whichever link offers it; see :data:`CallerFor`."""
        balanced = self._balanced[service]
        caller = self._around(balanced, service, options)
        if options.resume:
            # It has its own way to go on, where another one would begin anew.
            return Resuming(caller, balanced, self._host.connect_timeout)
        return caller

    def over_one_link(self, link: Caller) -> CallerFor:
        """Return what gives what makes the calls of services that all take the same link."""

        def caller_for(service: str, options: Options) -> Caller:
            if options.resume:
                raise ConfigurationError(
                    "a stream over one link ends with the link: resume=True is for peer.service(...), which may take "
                    "another one, not for link.service(...)"
                )
            return self._around(link, service, options)

        return caller_for

    def _around(self, caller: Caller, service: str, options: Options) -> Caller:
        """Return a caller with what the options ask for around it."""
        if options.retry is not None:
            budget = self._budgets.of(service, options.retry)
            return Retrying(caller, options.retry, budget, self._host.call_counts)
        return caller
