"""What makes the calls of proxies: callers, one around the other, as the options ask."""

from __future__ import annotations

from typing import final

from duplex._balancing import Balancing
from duplex._errors import ConfigurationError
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.client._balanced import BalancedServices, Host
from duplex.client._budget import Budgets
from duplex.client._hedge import Hedging
from duplex.client._middleware import CallingMiddleware, Layered
from duplex.client._options import Options
from duplex.client._proxy import CallerFor
from duplex.client._resume import Resuming
from duplex.client._retry import Retrying
from duplex.engine.calling import Caller


@final
class Callers:
    """Gives what makes the calls of one peer.

    Args:
        host: the peer.
        balancing: how the calls of a service are shared out, if they ask for no other way.
        breaker: which peers get no calls for a while, because they fail; ``None``: all get some.
        detection: which peers get no calls for a while, because they fail more often than others.
        middleware: what runs around all calls, the outermost first.
    """

    def __init__(
        self,
        host: Host,
        balancing: Balancing,
        breaker: CircuitBreaker | None = None,
        detection: OutlierDetection | None = None,
        middleware: tuple[CallingMiddleware, ...] = (),
    ) -> None:
        self._host = host
        self._balanced = BalancedServices(host, balancing, breaker, detection)
        self._budgets = Budgets()
        self._middleware = middleware

    def over_any_link(self, service: str, options: Options) -> Caller:
        """Return what makes the calls of a service over whichever link offers it; see :data:`CallerFor`."""
        balanced = self._balanced.of(service, options.balancer)
        caller = self._around(balanced, service, options)
        if options.resume:
            # It has its own way to go on, where another one would begin anew.
            caller = Resuming(caller, balanced, self._host.connect_timeout)
        return self._behind_middleware(caller, options)

    def over_one_link(self, link: Caller) -> CallerFor:
        """Return what gives what makes the calls of services that all take the same link."""

        def caller_for(service: str, options: Options) -> Caller:
            if options.resume:
                raise ConfigurationError(
                    "a stream over one link ends with the link: resume=True is for peer.service(...), which may take "
                    "another one, not for link.service(...)"
                )
            if options.balancer is not None:
                raise ConfigurationError(
                    "balancer= is for peer.service(...), whose calls may take several links, not for link.service(...)"
                )
            return self._behind_middleware(self._around(link, service, options), options)

        return caller_for

    def of_callbacks(self, link: Caller) -> Caller:
        """Return what calls functions of the other side of a link."""
        return Layered(link, self._middleware) if self._middleware else link

    def _behind_middleware(self, caller: Caller, options: Options) -> Caller:
        layers = (*self._middleware, *options.middleware)
        return Layered(caller, layers) if layers else caller

    def _around(self, caller: Caller, service: str, options: Options) -> Caller:
        """Return a caller with what the options ask for around it."""
        if options.retry is not None:
            budget = self._budgets.of(service, options.retry)
            return Retrying(caller, options.retry, budget, self._host.call_counts)
        if options.hedging is not None:
            budget = self._budgets.of(service, options.hedging)
            return Hedging(caller, options.hedging, budget, self._host.call_counts)
        return caller
