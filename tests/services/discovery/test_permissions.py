"""Who may change a directory: what its methods require, and servers that ask for it, in this process and as processes."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import duplex
from duplex_services.discovery import discovery_service, open_directory, open_server
from duplex_services.discovery.client import (
    OPERATE,
    REGISTER,
    DiscoveryService,
    Filter,
    Registration,
    Report,
    ServiceConfig,
    follow,
    keep_registered,
    open_client,
)
from tests.engine.helpers import until
from tests.machine import fail_after, within
from tests.services.shell import Shell, serve_discovery
from tests.transports.certificates import tls

SAID = Registration("a", endpoint="tcp://10.0.0.7:7700", protocol="duplex")

RIGHTS = {b"registrant": {REGISTER}, b"operator": {REGISTER, OPERATE}}

REGISTERING = {"register", "heartbeat", "beat", "report", "deregister"}
OPERATING = {
    "drain",
    "maintain",
    "set_leader",
    "add_service",
    "configure",
    "remove_service",
    "set_metadata",
}


async def by_token(handshake: duplex.Handshake) -> duplex.Identity:
    token = handshake.credentials or b""
    if token not in RIGHTS:
        return handshake.identity
    return duplex.Identity(token.decode(), "token", {"rights": RIGHTS[token]})


def by_rights(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
    rights: set[str] = identity.attributes.get("rights", set())
    return call.requires <= rights


@asynccontextmanager
async def guarded() -> AsyncIterator[str]:
    """A server that asks who it is; gives where it is bound."""
    async with (
        open_directory("memory:") as directory,
        open_server(directory, ["memory://*"], authenticator=by_token, authorize=by_rights) as (_, ends),
    ):
        yield ends[0]


CHANGES: dict[str, Callable[[DiscoveryService], Awaitable[object]]] = {
    "heartbeat": lambda remote: remote.heartbeat("web", SAID, 10.0),
    "beat": lambda remote: remote.beat("web", "a", "x"),
    "report": lambda remote: remote.report("web", "a", Report("warning"), ""),
    "drain": lambda remote: remote.drain("web", "a", "", False),
    "maintain": lambda remote: remote.maintain("web", "a", "", False),
    "set_leader": lambda remote: remote.set_leader("web", "a"),
    "add_service": lambda remote: remote.add_service("web", ServiceConfig()),
    "configure": lambda remote: remote.configure("web", ServiceConfig()),
    "set_metadata": lambda remote: remote.set_metadata("web", {}, 0),
    "deregister": lambda remote: remote.deregister("web", "a", "", ""),
    "remove_service": lambda remote: remote.remove_service("web"),
}


async def test_what_methods_require() -> None:
    async with open_directory("memory:") as directory:
        methods = discovery_service(directory).methods
    found = {name: set(method.requires) for name, method in methods.items()}
    assert {name for name, requires in found.items() if requires == {REGISTER}} == REGISTERING
    assert {name for name, requires in found.items() if requires == {OPERATE}} == OPERATING
    assert {name for name, requires in found.items() if not requires} == {
        *("instances", "watch", "leader", "watch_leader", "services", "service", "status", "explain", "diff")
    }
    assert {*CHANGES, "register"} == REGISTERING | OPERATING


async def outcomes(remote: DiscoveryService) -> dict[str, str]:
    """Make each change, and return how it ended."""
    found: dict[str, str] = {}
    try:
        async with remote.register.open("web", SAID, 10.0) as call:
            await call.receive()
            found["register"] = "OK"
    except duplex.RPCError as error:
        found["register"] = error.code.name
    for name, change in CHANGES.items():
        try:
            await change(remote)
        except duplex.RPCError as error:
            found[name] = error.code.name
        else:
            found[name] = "OK"
    return found


@pytest.mark.parametrize(
    ("token", "refused"),
    [
        (None, REGISTERING | OPERATING),
        (b"wrong", REGISTERING | OPERATING),
        (b"registrant", OPERATING),
        (b"operator", set[str]()),
    ],
)
async def test_who_may_do_what(token: bytes | None, refused: set[str]) -> None:
    async with guarded() as endpoint, open_client(endpoint, credentials=token) as peer:
        remote = peer.service(DiscoveryService, name="discovery")
        found = await outcomes(remote)
        assert {name for name, outcome in found.items() if outcome == "PERMISSION_DENIED"} == refused
        # All may look.
        assert (await remote.instances("web", Filter())).service == "web"
        assert (await remote.services()).servers
        async with follow(peer, "web") as web:
            assert (await web.receive()).current


async def test_without_authorize_a_peer_of_ones_own_takes_no_changes_and_open_server_takes_all() -> None:
    async with open_directory("memory:") as directory:
        async with duplex.open_peer(services=[discovery_service(directory)]) as peer:
            async with open_client(await peer.bind("memory://*")) as client:
                found = await outcomes(client.service(DiscoveryService, name="discovery"))
                assert set(found.values()) == {"PERMISSION_DENIED"}
        async with open_server(directory, ["memory://*"]) as (_, ends), open_client(*ends) as client:
            found = await outcomes(client.service(DiscoveryService, name="discovery"))
            assert "PERMISSION_DENIED" not in found.values()


async def test_a_refused_registration_says_why_and_is_made_as_soon_as_it_may_be() -> None:
    allowed = False

    def authorize(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        return allowed or not call.requires

    with fail_after(30):
        async with open_directory("memory:") as directory:
            async with open_server(directory, ["memory://*"], authorize=authorize) as (_, ends):
                async with open_client(*ends) as peer, keep_registered(peer, "web", SAID) as registered:
                    await registered.answered()
                    assert not registered.is_registered
                    assert isinstance(registered.refusal, duplex.PermissionDenied)
                    assert "requires the permission 'discovery:register'" in registered.refusal.message
                    allowed = True
                    await registered.registered()
                    assert registered.refusal is None


async def test_a_peer_is_registered_with_its_credentials(caplog: pytest.LogCaptureFixture) -> None:
    calc = duplex.Service("calc")

    @calc.rpc
    async def add(a: int, b: int) -> int:
        return a + b

    with fail_after(60):
        async with guarded() as discovery:
            async with (
                duplex.open_peer(services=[calc], discovery=discovery, credentials=b"registrant") as worker,
                duplex.open_peer(discovery=discovery) as caller,
            ):
                await worker.bind("tcp://127.0.0.1:*")
                await caller.connect("discovery://calc", timeout=30)
                assert await caller.service("calc").add(1, 2) == 3
            with caplog.at_level(logging.WARNING, "duplex"):
                async with duplex.open_peer(services=[calc], discovery=discovery) as stranger:
                    await stranger.bind("tcp://127.0.0.1:*")
                    await until(lambda: "requires the permission 'discovery:register'" in caplog.text)
    assert "no server of discovery answers" not in caplog.text


async def test_over_tls() -> None:
    calc = duplex.Service("calc")

    @calc.rpc
    async def add(a: int, b: int) -> int:
        return a + b

    own = tls()
    with fail_after(60):
        async with open_directory("memory:") as directory:
            async with (
                open_server(
                    directory, ["tls://127.0.0.1:*"], authenticator=by_token, authorize=by_rights, tls=own
                ) as (_, ends),
                duplex.open_peer(
                    services=[calc], discovery=ends, credentials=b"registrant", tls=own
                ) as worker,
                duplex.open_peer(discovery=ends, tls=duplex.TLS(ca=own.ca)) as caller,
            ):
                endpoint = await worker.bind("tls://127.0.0.1:*")
                await caller.connect("discovery://calc", timeout=30)
                assert await caller.service("calc").add(1, 2) == 3
                assert [one.endpoint for one in directory.reading.view.instances("calc")] == [endpoint]
                async with open_client(*ends, tls=duplex.TLS(ca=own.ca), credentials=b"operator") as operator:
                    remote = operator.service(DiscoveryService, name="discovery")
                    await remote.drain("calc", worker.id, "", False)


async def test_who_may_not_look_is_told_so() -> None:
    def nobody(identity: duplex.Identity, method: str, call: duplex.AskedCall) -> bool:
        return False

    with fail_after(30):
        async with open_directory("memory:") as directory:
            async with open_server(directory, ["memory://*"], authorize=nobody) as (_, ends):
                async with open_client(*ends) as peer, follow(peer, "web") as web:
                    while web.refusal is None:
                        await web.receive()
                    assert "may not call discovery.watch" in str(web.refusal)
                async with duplex.open_peer(discovery=ends[0], connect_timeout=5) as caller:
                    with pytest.raises(
                        duplex.ConnectError, match=r"refuses: .* may not call discovery\.watch"
                    ):
                        await caller.connect("discovery://web")


# -- processes -------------------------------------------------------------------------------------------

WHO = """
import duplex

PEOPLE = {b"sesame": duplex.Identity("ali", "token")}

print("imported")  # which is nothing that a reader of endpoints may see


async def by_token(handshake):
    return PEOPLE.get(handshake.credentials or b"", handshake.identity)


def writers(identity, method, call):
    return not call.requires or not identity.is_anonymous
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "who.py").write_text(WHO)
    (tmp_path / "token").write_text("sesame\n")
    with Shell(tmp_path) as shell:
        yield shell


def guards(shell: Shell) -> tuple[str, ...]:
    who = f"{shell.folder}/who.py"
    return "--authenticator", f"{who}:by_token", "--authorize", f"{who}:writers"


@pytest.mark.slow
def test_processes_with_and_without_credentials(shell: Shell) -> None:
    own = ("discovery",)
    shown = ("--credentials", f"{shell.folder}/token")
    with Shell(shell.folder, "discovery") as other:
        server = serve_discovery(other, *guards(shell))

        code, _, err = shell.run(*own, "register", "web", "10.0.0.7:80", "--id", "a")
        assert code == 71, err
        assert "anonymous may not call discovery.register" in err
        registrant = shell.start(*own, "register", "web", "10.0.0.7:80", "--id", "a", *shown)
        shell.until("10.0.0.7:80", *own, "ls", "web")

        for words in (("drain", "web", "a"), ("deregister", "web", "a"), ("leader", "web", "--set", "a")):
            code, _, err = shell.run(*own, *words)
            assert code == 71, err
            assert "may not call discovery." in err
        assert shell.run(*own, "drain", "web", "a", *shown)[0] == 0
        assert shell.run(*own, "drain", "web", "a", "--undo", DUPLEX_CREDENTIALS="sesame")[0] == 0

        # A worker is registered with its own, and called without any.
        example = str(Path(__file__).parents[3] / "examples" / "calc.py")
        stranger = shell.start("serve", example)
        worker = shell.start("serve", example, *shown)
        shell.until("calc", *own, "ls")
        assert shell.run("call", "discovery://calc", "calc.add", "1", "2")[1].strip() == "3"
        stranger.send_signal(signal.SIGTERM)
        _, err = stranger.communicate(timeout=within(30))
        assert "is not registered yet: anonymous may not call discovery.register" in err
        for process in (registrant, worker):
            assert process.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(within(20)) == 0


@pytest.mark.slow
def test_http_is_no_way_around(shell: Shell) -> None:
    words = ("discovery", "run", "--no-socket", "--bind", shell.endpoint, *guards(shell))
    code, _, err = shell.run(*words, "--http", "127.0.0.1:0")
    assert code == 2
    assert "HTTP would let everybody do it: say what changes have to show with --http-write-token" in err
    server = shell.start(*words, "--http", "127.0.0.1:0", DUPLEX_DISCOVERY_HTTP_WRITE_TOKEN="secret")
    assert server.stdout is not None
    assert server.stdout.readline().strip() == shell.endpoint
    assert server.stdout.readline().startswith("http://127.0.0.1:")
    code, _, err = shell.run("discovery", "run", "--authorize", f"{shell.folder}/who.py:nothing")
    assert code == 2
    assert "nothing" in err
