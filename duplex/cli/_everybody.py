"""``duplex call --all``: one call at every instance of a service, and what comes of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

import duplex
from duplex.cli._errors import CommandError
from duplex.cli._output import ResultWriter
from duplex.cli._probe import connect
from duplex.cli._report import exit_code, report, tell
from duplex.cli._session import Call, describe_method, peer_for
from duplex.cli._words import bind_data, bind_words, check_method
from duplex.resolvers import is_looked_up


async def call_everybody(call: Call, also: Sequence[str]) -> int:
    """Call a method at all instances that an endpoint names, and write a line for each result to stdout, in the order in which they
    come. What fails goes to stderr.

    Args:
        call: the call; nothing is streamed to it.
        also: further endpoints.

    Returns:
        The exit code: 0 if all have answered with a result, else that of the first failure.
    """
    endpoints = (call.endpoint, *also)
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        report(error)

    async with peer_for(endpoints, call.connect_timeout) as peer:
        links = await _link(peer, endpoints, fail)
        service, _, name = call.target.rpartition(".")
        for link in links:
            if service not in link.services:
                fail(_not_offered(link, call.target))
        offering = [link for link in links if service in link.services]
        if offering:
            await _ask(peer, offering[0], service, name, call, fail)
    return exit_code(failures[0]) if failures else 0


async def _link(
    peer: duplex.Peer, endpoints: Sequence[str], fail: Callable[[Exception], None]
) -> list[duplex.Link]:
    """Connect to all addresses of all endpoints at once; return one link to each peer."""
    addresses: dict[str, None] = {}
    for endpoint in endpoints:
        if not is_looked_up(endpoint):
            addresses[endpoint] = None
            continue
        known = await peer.look_up(endpoint)
        if known.problem:
            tell(f"{endpoint}: {known.problem}")
        addresses.update((one.address, None) for one in known)
    links: dict[str, duplex.Link] = {}

    async def link(address: str) -> None:
        try:
            made = await connect(peer, address)
        except duplex.DuplexError as error:
            fail(error)
        else:
            links.setdefault(made.peer_id, made)

    async with trio.open_nursery() as nursery:
        for address in addresses:
            nursery.start_soon(link, address)
    return list(links.values())


def _not_offered(link: duplex.Link, target: str) -> duplex.RPCError:
    offered = ", ".join(sorted(name for name in link.services if not name.startswith("duplex.")))
    error = duplex.Unimplemented(f"there is no such service; it offers {offered or 'none'}")
    error.method, error.peer = target, link.peer_name
    return error


async def _ask(
    peer: duplex.Peer,
    described_by: duplex.Link,
    service: str,
    name: str,
    call: Call,
    fail: Callable[[Exception], None],
) -> None:
    method = None
    if call.reflection:
        method = await describe_method(described_by, call.target, timeout=call.connect_timeout)
    if method is not None:
        check_method(method)
        if method.streams_input or method.streams_output:
            raise CommandError(
                f"--all is for methods that take no stream and return one result: it is {method.signature}"
            )
    if call.data is not None:
        arguments = bind_data(call.data, method)
    else:
        arguments = bind_words(call.words, method)
    proxy = peer.service(service).with_options(timeout=call.timeout, metadata=call.metadata)
    writer = ResultWriter(raw=call.raw)
    async for answered, outcome in proxy[name].gather(*arguments.positional, **arguments.keyword):
        if outcome.error is not None:
            fail(outcome.error)
        elif call.raw:
            await writer.write(outcome.result(), alone=False)
        else:
            await writer.write({"peer": str(answered), "result": outcome.result()}, alone=False)
