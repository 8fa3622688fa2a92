"""``--credentials``, ``--authenticator`` and ``--authorize``: who calls, and what it may."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import duplex
from tests.cli.conftest import Invoke
from tests.cli.harness import TARGETS, finish, serving, start

#: Processes start slowly.
pytestmark = pytest.mark.slow

GUARDED = TARGETS / "guarded.py"


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with serving(
        f"{GUARDED}:service",
        *("--authenticator", f"{GUARDED}:authenticator", "--authorize", f"{GUARDED}:authorize"),
        *("--log-level", "error"),
    ) as server:
        yield server.endpoint


@pytest.fixture
def ann(tmp_path: Path) -> Path:
    path = tmp_path / "ann"
    path.write_text("ann\n")
    return path


@pytest.mark.parametrize("content", [b"ann", b"ann\n", b"ann\r\n"])
def test_credentials_of_a_file(guarded: str, invoke: Invoke, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    assert invoke("call", guarded, "guarded.look", "--credentials", path) == (0, '"ann"\n', "")
    assert invoke("call", "--credentials", path, guarded, "guarded.change").code == 0


def test_credentials_of_the_environment(
    guarded: str, invoke: Invoke, ann: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPLEX_CREDENTIALS", "bob")
    assert invoke("call", guarded, "guarded.look").out == '"bob"\n'
    assert invoke("call", guarded, "guarded.look", "--credentials", ann).out == '"ann"\n'
    denied = invoke("call", guarded, "guarded.change")
    assert denied.code == 64 + duplex.StatusCode.PERMISSION_DENIED
    assert "bob may not call guarded.change" in denied.err
    monkeypatch.setenv("DUPLEX_CREDENTIALS", "")
    assert "come with a token" in invoke("call", guarded, "guarded.look").err


def test_every_command_shows_them(guarded: str, invoke: Invoke, ann: Path) -> None:
    for words in (
        ["list"],
        ["describe"],
        ["ping", "--count", "1"],
        ["health"],
        ["stats"],
        ["top", "--count", "1"],
        ["bench", "--duration", "0.01", "--warmup", "0", "guarded.look"],
    ):
        command, *options = words
        refused = invoke(command, guarded, *options)
        given = invoke(command, "--credentials", ann, guarded, *options)
        assert given.code == 0, given
        if command == "top":
            assert "come with a token" in refused.out
            assert "come with a token" not in given.out
        else:
            assert refused.code == 64 + duplex.StatusCode.UNAUTHENTICATED
            assert "come with a token" in refused.err


def test_a_secret_is_never_among_the_words_of_a_process(guarded: str, ann: Path) -> None:
    with start("ping", guarded, "--credentials", ann, "--count", 1000) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("ms\n")
        words = psutil.Process(process.pid).cmdline()
        assert str(ann) in words
        assert not any(word == "ann" for word in words)
        process.terminate()
        finish(process)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (bytes(8193), "are over the limit of 8192"),
        (bytes(100_000), "are over the limit of 8192"),
    ],
)
def test_files_that_are_none(invoke: Invoke, tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    result = invoke("ping", "tcp://127.0.0.1:9", "--credentials", path)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
    assert "--credentials" in result.err


def test_an_environment_that_is_too_large(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUPLEX_CREDENTIALS", "x" * 8193)
    result = invoke("ping", "tcp://127.0.0.1:9")
    assert result.code == 2
    assert "DUPLEX_CREDENTIALS: credentials of 8193 bytes" in result.err


def test_a_server_shows_credentials_too(ann: Path) -> None:
    """To those who want to know whom they have reached."""
    asks = """
import sys, duplex, trio

async def ask(handshake):
    print(handshake.credentials)
    return handshake.identity

async def main():
    async with duplex.open_peer(authenticator=ask) as peer:
        await peer.connect(sys.argv[1])

trio.run(main)
"""
    with serving(f"{GUARDED}:service", "--credentials", ann) as server:
        told = subprocess.run([sys.executable, "-c", asks, server.endpoint], capture_output=True, text=True)
    assert told.stdout == "b'ann'\n"


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--authorize", f"{GUARDED}", "names no function"),
        (
            "--authorize",
            f"{GUARDED}:nothing",
            "has no attribute 'nothing'; it has annotations, authenticator",
        ),
        ("--authorize", "no.such.module:f", "there is no module 'no'"),
        ("--authorize", f"{GUARDED}:service", "authorize must be a function"),
        ("--authenticator", "os:sep", "authenticator must be an async function, not '/'"),
        ("--authorize", "os:getpid", "authorize must take three arguments"),
    ],
)
def test_functions_that_are_none(
    invoke: Invoke, forget_imports: None, option: str, value: str, complaint: str
) -> None:
    result = invoke("serve", f"{GUARDED}:service", option, value)
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
