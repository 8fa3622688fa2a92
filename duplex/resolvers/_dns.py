"""The endpoints that name servers give: addresses, or SRV records, for as long as they say."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, final

import trio

from duplex._errors import ConfigurationError
from duplex._numbers import LEAST_SECONDS, check_seconds
from duplex.resolvers._endpoint import Endpoint
from duplex.resolvers._host import at

#: Seconds that one question may take.
_PATIENCE: Final = 10.0
#: The weight of an SRV record without one, which is to get next to nothing, as a part of the others' average.
_LITTLE: Final = 0.01


@final
class DnsResolver:
    """The endpoints that name servers give for a name.

    With a port, they are the addresses of a host (A and AAAA). Without one, the name is that of SRV records, such as
    ``_calc._tcp.example``: of those the ones with the first priority count, with their ports and weights. Name servers are asked
    again when what they said has expired.

    Args:
        name: the name.
        port: of the endpoints; ``None`` for what SRV records say.
        nameserver: the IP address of the name server to ask; empty: those of the system.
        nameserver_port: its port.
        shortest: seconds between questions, however soon answers expire.
        longest: seconds between questions, however late answers expire: what has changed is known so soon at the latest.

    Raises:
        ConfigurationError: a time is wrong, or the package ``dnspython`` is missing, which is ``duplex-rpc[dns]``.
    """

    def __init__(
        self,
        name: str,
        port: int | None = None,
        *,
        nameserver: str = "",
        nameserver_port: int = 53,
        shortest: float = 5.0,
        longest: float = 60.0,
    ) -> None:
        if importlib.util.find_spec("dns") is None:
            raise ConfigurationError(
                "DnsResolver needs the package dnspython: pip install 'duplex-rpc[dns]'; HostResolver (host://...) does without"
            )
        self._name = name
        self._port = port
        self._nameserver = nameserver
        self._nameserver_port = nameserver_port
        self._shortest: float = check_seconds("shortest", shortest, low=LEAST_SECONDS)
        self._longest: float = check_seconds("longest", longest, low=shortest)

    def __repr__(self) -> str:
        return f"<DNS records of {self._name}>"

    async def resolve(self, service: str) -> AsyncIterator[Sequence[Endpoint]]:
        """See :meth:`Resolver.resolve`."""
        known: list[Endpoint] | None = None
        addresses: dict[str, list[str]] = {}
        questions = _Questions(self._nameserver, self._nameserver_port)
        while True:
            questions.ttl = self._longest
            if self._port is None:
                found = await self._services(questions, addresses)
            else:
                found = [Endpoint(at(one, self._port)) for one in await questions.addresses(self._name)]
            if found != known:
                yield found
                known = found
            if not found:
                questions.ttl = 0.0
            await trio.sleep(max(self._shortest, questions.ttl))

    async def _services(self, questions: _Questions, known: dict[str, list[str]]) -> list[Endpoint]:
        """Return the endpoints that SRV records name.

        Args:
            questions: asks for them.
            known: the addresses of their targets, as far as they were ever told.
        """
        records = await questions.ask(self._name, "SRV")
        first = min((record.priority for record in records), default=0)
        records = sorted(
            (record for record in records if record.priority == first),
            key=lambda record: (str(record.target), record.port),
        )
        # Weights are relative to each other, and have to go with those of other resolvers.
        average = sum(record.weight for record in records) / max(1, len(records)) or 1.0
        found = []
        problem: Exception | None = None
        for record in records:
            weight = max(record.weight / average, _LITTLE) if any(one.weight for one in records) else 1.0
            target = str(record.target)
            try:
                addresses = known[target] = await questions.addresses(target)
            except Exception as error:
                # One of them is no reason to forget the others, or what was known of it.
                problem = error
                addresses = known.get(target, [])
                questions.ttl = 0.0
            found += [Endpoint(at(address, record.port), weight=weight) for address in addresses]
        if problem is not None and not found:
            raise problem
        return found


class _Questions:
    """Asks name servers, and notes for how long the answers hold.

    Args:
        nameserver: whom to ask; empty: those of the system.
        port: its port.
    """

    def __init__(self, nameserver: str, port: int) -> None:
        # A program that asks no name servers does not load it.
        import dns.asyncresolver

        self._resolver = dns.asyncresolver.Resolver(configure=not nameserver)
        if nameserver:
            self._resolver.nameservers = [nameserver]
            self._resolver.port = port
        #: Seconds until the first of the answers so far expires, at most what it was set to.
        self.ttl = 0.0

    async def addresses(self, host: str) -> list[str]:
        """Return the addresses of a host, sorted. If only one kind can be asked for, those of that kind."""
        found: list[str] = []
        problems: list[Exception] = []
        for kind in ("A", "AAAA"):
            try:
                found += sorted(str(record.address) for record in await self.ask(host, kind))
            except Exception as error:
                problems.append(error)
        if problems and not found:
            raise problems[0]
        if not found:
            self.ttl = 0.0  # it may be a matter of moments
        return found

    async def ask(self, name: str, kind: str) -> Sequence[Any]:
        """Return the records of a name; none if there is no such name, or none of that kind.

        Raises:
            dns.exception.DNSException: nobody has answered.
        """
        import dns.resolver

        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, lifetime=_PATIENCE)
        except dns.resolver.NXDOMAIN:
            return []
        if answer.rrset is None:
            return []
        # The names on the way there may change sooner than what they lead to.
        self.ttl = min(self.ttl, float(answer.chaining_result.minimum_ttl))
        return list(answer.rrset)
