"""``duplex doctor``: how far one gets to a peer, step by step, and what to do where that ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import click
import trio

import duplex
from duplex.cli._errors import FAILED
from duplex.cli._output import to_json
from duplex.cli._probe import verdict_on
from duplex.cli._report import printable
from duplex.cli._session import peer_for
from duplex.cli._tls_options import tls
from duplex.resolvers import is_looked_up
from duplex.transports import full_endpoint
from duplex.transports.streams import Examination
from duplex.transports.streams._examining import SCHEMES

#: What the steps of an examination are called.
_NAMES: Final = {"address": "address", "connection": "connection", "tls": "TLS", "zmtp": "ZMTP"}
_WIDTH: Final = 11

#: What to do about a problem in which these words are; the first that fits.
_ADVICE: Final = (
    ("cannot be found", "check the name, and how this machine looks names up (getent hosts NAME)"),
    ("connection refused", "start the server, or see on its host what listens where (ss -ltn)"),
    ("no such file", "start the server, or check the path"),
    ("did not answer", "the host is down, or a firewall swallows what is sent to that port"),
    ("unreachable", "check the address, and the network between"),
    ("no route to host", "check the address, and the network between"),
    ("without TLS", "write tcp:// in the place of tls://"),
    ("speaks TLS, and this one does not", "write tls:// in the place of tcp://"),
    (
        "is not valid for",
        "connect by a name that is in the certificate, or name one of those with --tls-server-name",
    ),
    ("certificate has expired", "the server needs a new certificate"),
    ("its certificate is not accepted", "name the authority that has signed it with --tls-ca FILE"),
    ("certificate required", "it asks for a certificate: give --tls-cert FILE and --tls-key FILE"),
    ("by an alert of TLS", "its log says why; it may want another certificate (--tls-cert)"),
    ("the other side speaks ", "another program has this port: check which one the server is bound to"),
    ("the mechanism", "it is a ZeroMQ program that encrypts in its own way, and no Duplex peer"),
    ("socket of type", "it is another ZeroMQ program, and no Duplex peer"),
    (
        "in the middle of the handshake",
        "see its log: a ZeroMQ program with CURVE does that, or one that is overloaded",
    ),
    (
        "pings were answered",
        "its event loop is busy or stands still: see its log, or what it does (duplex top)",
    ),
    ("is silent", "it hangs, or is no peer and waits for others to speak: see what listens there (ss -ltnp)"),
    ("(auth)", "show what proves who you are, with --credentials FILE"),
    ("(limit)", "it has as many links as it takes: wait, or raise Limits.max_links there"),
    ("(draining)", "it is about to end: connect to another one"),
    ("has not greeted as a Duplex peer does", "it is a ZeroMQ program, and no Duplex peer"),
)
_NO_ADVICE: Final = "see the log of the program that listens there"


class Finding(NamedTuple):
    """What has come of one step."""

    step: str
    ok: bool
    text: str

    @property
    def advice(self) -> str | None:
        """What to do about it; ``None`` if there is nothing to be done."""
        if self.ok:
            return None
        return next((advice for words, advice in _ADVICE if words in self.text), _NO_ADVICE)


async def show_diagnosis(endpoint: str, *, connect_timeout: float, count: int, as_json: bool) -> int:
    """Write how far one gets to stdout, and return the exit code.

    Args:
        endpoint: where a peer should be; of a service that is looked up, all instances are.
        connect_timeout: seconds for everything up to ZMTP's handshake, and for what comes then, each.
        count: how many round trips are measured.
        as_json: in one object, at the end.
    """
    findings: list[tuple[str, Finding]] = []
    async with peer_for([endpoint], connect_timeout) as peer:
        addresses = [full_endpoint(endpoint)]
        if is_looked_up(endpoint):
            known = await peer.look_up(endpoint)
            addresses = [one.address for one in known.endpoints]
        for address in addresses:
            if not as_json:
                click.echo(printable(address))

            def note(step: str, ok: bool, text: str, address: str = address) -> None:
                finding = Finding(step, ok, text)
                findings.append((address, finding))
                if not as_json:
                    _show(finding)

            await _diagnose(peer, address, connect_timeout, count, note)
    is_well = all(finding.ok for _, finding in findings)
    if as_json:
        steps = [
            {"endpoint": address, **finding._asdict(), "advice": finding.advice}
            for address, finding in findings
        ]
        click.echo(to_json({"ok": is_well, "steps": steps}, pretty=True))
    return 0 if is_well else FAILED


def _show(finding: Finding) -> None:
    mark = "ok    " if finding.ok else "failed"
    style = {"fg": "green"} if finding.ok else {"fg": "red", "bold": True}
    click.echo(f"  {click.style(mark, **style)}  {finding.step:{_WIDTH}}  {printable(finding.text)}")
    if finding.advice is not None:
        click.echo(f"  {'':{len(mark)}}  {'':{_WIDTH}}  {finding.advice}")


_Note = Callable[[str, bool, str], None]


async def _diagnose(peer: duplex.Peer, endpoint: str, timeout: float, count: int, note: _Note) -> None:
    if endpoint.partition("://")[0] in SCHEMES and not await _examine(endpoint, timeout, note):
        return
    try:
        link = await peer.connect(endpoint, timeout=timeout)
    except (duplex.ConnectError, duplex.HandshakeError) as error:
        note("Duplex", False, str(error))
        return
    services = ", ".join(f"{name} {version}" for name, version in sorted(link.services.items()))
    note("Duplex", True, f"{link.peer_name}, id {link.peer_id}; services: {services or 'none'}")
    times: list[float] = []
    with trio.move_on_after(timeout):
        while len(times) < count:
            times.append(1000 * await link.ping())
    if len(times) < count:
        note("round trips", False, f"{len(times)} of {count} pings were answered within {timeout:g} s")
        return
    times.sort()
    middle = (times[count // 2] + times[~(count // 2)]) / 2
    note("round trips", True, f"{count}: min {times[0]:.3f}, median {middle:.3f}, max {times[-1]:.3f} ms")


async def _examine(endpoint: str, timeout: float, note: _Note) -> bool:
    """Look at an endpoint as far as ZMTP; tell whether all is well so far."""
    found = Examination(endpoint, tls())
    with trio.move_on_after(timeout):
        await found.run()
    problem = None if found.is_done else f"{_waits_for(found)} within {timeout:g} s"
    if found.problem is not None:
        problem = verdict_on(found, endpoint)
    for step, text in _done(found).items():
        if step == found.step and problem is not None:
            break
        note(_NAMES[step], True, text)
    if problem is not None:
        note(_NAMES[found.step], False, problem)
    return problem is None


def _waits_for(found: Examination) -> str:
    """What has not happened, where nothing is wrong otherwise."""
    if found.step == "address":
        return "its host's address was not told"
    if found.step == "connection":
        return f"{' and '.join(found.addresses)} did not answer"
    if not found.has_heard:
        return f"{found.connected} accepted the connection, but is silent: it said nothing of {_NAMES[found.step]}"
    return f"{found.connected} did not complete the handshake of {_NAMES[found.step]}"


def _done(found: Examination) -> dict[str, str]:
    """What is known of each step, in their order."""
    steps = {"address": ", ".join(found.addresses), "connection": f"{found.connected} accepted it"}
    if found.refusals:
        steps["connection"] += f" ({'; '.join(found.refusals)})"
    if found.tls is not None:
        steps["tls"] = f"{found.tls.version}, {found.tls.cipher}"
        if found.tls.names:
            steps["tls"] += f"; for {', '.join(found.tls.names)}, valid until {found.tls.expires}"
    elif found.step == "tls":
        steps["tls"] = ""
    steps["zmtp"] = (
        "" if found.zmtp is None else f"{found.zmtp.version}, {found.zmtp.mechanism}, {found.zmtp.socket}"
    )
    return steps
