"""What makes the calls of proxies: callers, one around the other, as the options ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol, final

from duplex._balancing import Balancing
from duplex._errors import ConfigurationError
from duplex._policies import CircuitBreaker, OutlierDetection
from duplex.client import _balanced
from duplex.client._balanced import BalancedServices
from duplex.client._budget import Budgets
from duplex.client._hedge import Hedging
from duplex.client._middleware import CallingMiddleware, Layered
from duplex.client._options import Options
from duplex.client._resume import Resuming
from duplex.client._retry import Retrying
from duplex.engine._peer_info import PeerInfo
from duplex.engine.calling import Caller, Gathering, Request, _gathering, gathering


class Host(_balanced.Host, _gathering.Host, Protocol):
    """The peer that makes the calls."""


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

    def caller(self, service: str, options: Options) -> Caller:
        """Return what makes the calls of a service over whichever link offers it; see :meth:`Route.caller`."""
        balanced = self._balanced.of(service, options.balancer)
        caller = self._around(balanced, service, options)
        if options.resume:
            # It has its own way to go on, where another one would begin anew.
            caller = Resuming(caller, balanced, self._host.connect_timeout)
        return self.behind_middleware(caller, options)

    def gathering(
        self,
        service: str,
        options: Options,
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> Gathering[Any]:
        """Return what makes a call at everybody who offers a service; see :meth:`Route.gathering`."""
        if options.resume or options.balancer is not None:
            raise ConfigurationError(
                f"gather() asks every peer for one result: {'resume' if options.resume else 'balancer'}= has no meaning there"
            )

        async def callers(request: Request) -> list[tuple[PeerInfo, Caller]]:
            everybody = await self._balanced.of(service).everybody(request)
            return [(peer, self.over_link(link, service, options)) for peer, link in everybody]

        arguments = positional, keyword
        return gathering(self._host, request, arguments, callers, options.max_answers, options.stall)

    def over_one_link(self, link: Caller) -> OneLink:
        """Return what gives what makes the calls of services that all take the same link."""
        return OneLink(self, link)

    def of_callbacks(self, link: Caller) -> Caller:
        """Return what calls functions of the other side of a link."""
        return Layered(link, self._middleware) if self._middleware else link

    def over_link(self, link: Caller, service: str, options: Options) -> Caller:
        """Return what makes the calls of a service over one link."""
        return self.behind_middleware(self._around(link, service, options), options)

    def behind_middleware(self, caller: Caller, options: Options) -> Caller:
        """Return a caller with the peer's middleware around it, and that of the options."""
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


@final
class OneLink:
    """Gives what makes the calls of services that all take the same link: a :class:`Route`.

    Args:
        callers: those of the peer.
        link: makes calls over the link.
    """

    def __init__(self, callers: Callers, link: Caller) -> None:
        self._callers = callers
        self._link = link

    def caller(self, service: str, options: Options) -> Caller:
        """See :meth:`Route.caller`."""
        if options.resume:
            raise ConfigurationError(
                "a stream over one link ends with the link: resume=True is for peer.service(...), which may take "
                "another one, not for link.service(...)"
            )
        if options.balancer is not None:
            raise ConfigurationError(
                "balancer= is for peer.service(...), whose calls may take several links, not for link.service(...)"
            )
        return self._callers.over_link(self._link, service, options)

    def gathering(
        self,
        service: str,
        options: Options,
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> NoReturn:
        """See :meth:`Route.gathering`."""
        raise ConfigurationError(
            "gather() asks every peer that offers a service: it is for peer.service(...), not for link.service(...)"
        )
