"""Fuzzing of a live peer's socket: ``python -m tests.fuzz.live --runs N --scheme tcp``.

A peer serves in a process of its own, over tcp or ipc. Links that greet and links that do not send it
changed batches as fast as it takes them, and bare connections speak broken ZMTP. All the while a client
that keeps the rules calls over a link of its own, and must get its answer. The peer's links, channels, tasks
and memory stay bounded, and once the others are gone, nothing of them is left.

Every input follows from the seed and the corpus.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio
import zmq

import duplex
from tests.fuzz.inputs import HELLO, Mutator, pack, split, unpack
from tests.fuzz.seeds import CORPUS
from tests.soak.supervisor import unexpected

ROOT: Final = Path(__file__).resolve().parents[2]
#: Batches over one connection, and connections at once, on average.
BATCHES, AT_ONCE = 25, 8
#: Inputs between two calls of the client that keeps the rules, and between two looks at the peer.
CALL_EVERY, LOOK_EVERY = 200, 1000
#: Seconds that its call may take.
PATIENCE: Final = 20.0
#: What the peer may have at any time.
MOST: Final = {"links": 200, "tasks": 4000, "channels": 20_000, "fds": 1000}
MOST_MIB: Final = 400
#: What a handler gets if the function that it calls back, and that is said to return a number, returns a channel.
LIED: Final = "duplex.Internal: callback "
#: The beginning of a ZMTP connection: a greeting (NULL, not as a server), and READY of a DEALER.
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)
READY: Final = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


class Peer:
    """The process that is fuzzed."""

    def __init__(self, endpoint: str, errors: Path) -> None:
        self._errors = errors.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.process", "server", "fuzzed", "1", endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
        )
        self.endpoint: str = self._hear()["endpoint"]

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the peer ended with {self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message

    async def report(self) -> dict[str, Any]:
        """Ask what it has."""
        assert self.process.stdin is not None
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        with trio.fail_after(PATIENCE):
            return await trio.to_thread.run_sync(self._hear, abandon_on_cancel=True)

    def resident(self) -> float:
        """Its memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self._errors.close()


@dataclasses.dataclass
class Result:
    """What became of a run."""

    inputs: int = 0
    connections: int = 0
    broken_zmtp: int = 0
    calls: int = 0
    slowest: float = 0.0
    most: dict[str, float] = dataclasses.field(default_factory=dict)
    findings: list[str] = dataclasses.field(default_factory=list)

    def describe(self) -> str:
        """Return its numbers in a line."""
        most = ", ".join(f"{value:.0f} {key}" for key, value in self.most.items())
        return (
            f"{self.connections} connections, {self.broken_zmtp} with broken ZMTP; {self.calls} honest calls, "
            f"the slowest {1000 * self.slowest:.0f} ms; at most {most}"
        )

    def look(self, seen: dict[str, float]) -> None:
        """Take note of what the peer has."""
        for key, value in seen.items():
            self.most[key] = max(self.most.get(key, 0), value)


@dataclasses.dataclass
class Bad:
    """A connection that does not keep the rules, but for the numbers of its channels, mostly."""

    dealer: zmq.Socket[bytes]
    left: int
    channel: int = 1

    def is_over(self) -> bool:
        """Read what the peer says, and tell whether that was the last of it."""
        with contextlib.suppress(zmq.Again):
            while True:
                commands = unpack(self.dealer.recv_multipart(zmq.NOBLOCK)[0])
                if any(command[0] in (1, 5) for command in commands):
                    return True
        return False


class Fuzzer:
    """Sends what no peer should."""

    def __init__(self, peer: Peer, source: random.Random, result: Result) -> None:
        self.peer = peer
        self.random = source
        self.result = result
        self.mutator = Mutator(source)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.open: list[Bad] = []
        paths = sorted((CORPUS / "connection").iterdir())
        self.corpus = [[m.frames for m in split(path.read_bytes())[1] if m.frames] for path in paths]

    def connect(self) -> None:
        """Make a connection; most of them greet as they should."""
        dealer = self.context.socket(zmq.DEALER)
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.RECONNECT_IVL, -1)
        dealer.set(zmq.SNDHWM, 100)
        dealer.connect(self.peer.endpoint)
        if self.random.random() < 0.85:
            dealer.send_multipart([pack([HELLO])])
        self.open.append(Bad(dealer, self.random.randrange(2 * BATCHES)))
        self.result.connections += 1

    def frames(self, bad: Bad) -> list[bytes]:
        """Make a message: one of the corpus, changed; or commands that could be right."""
        source = self.random
        if source.random() < 0.4:
            frames = list(source.choice(source.choice(self.corpus) or [[b""]]))
            for _ in range(source.randrange(1, 4)):
                frames = self.mutator.change_frames(frames)
            return frames
        commands = [self.mutator.command() for _ in range(source.randrange(1, 4))]
        if bad.channel == 1:
            commands.insert(0, self.mutator.opening())
        for command in commands:
            if command[0] == 7:
                command[1] = bad.channel
                command[3] |= 1 if command[3] & 4 else 0
                command[4] = b"" if command[3] & 4 and command[4] is None else command[4]
                bad.channel += 2
            elif command[0] in (6, 8, 9, 10, 11):
                command[1] = max(1, bad.channel - 2 * source.randrange(1, 4))
        kept = [command for command in commands if command[0] > 1 or source.random() < 0.05]
        return [pack(kept)]

    async def batch(self) -> None:
        """Send one batch over one of the connections."""
        if len(self.open) < AT_ONCE:
            self.connect()
        bad = self.random.choice(self.open)
        frames = self.frames(bad)
        with contextlib.suppress(zmq.Again):
            for _ in range(50):
                if bad.dealer.poll(0, zmq.POLLOUT):
                    break
                await trio.sleep(0.002)  # the peer takes its time, or has closed this link
            bad.dealer.send_multipart(frames, zmq.NOBLOCK)
        bad.left -= 1
        if bad.is_over() or bad.left <= 0:
            bad.dealer.close()
            self.open.remove(bad)

    async def zmtp(self) -> None:
        """Speak ZMTP that is wrong somewhere, to libzmq itself."""
        self.result.broken_zmtp += 1
        data = GREETING + READY + b"\x00\x05" + pack([[3, 1]])
        for _ in range(self.random.randrange(1, 4)):
            data = self.mutator.change_bytes(data)
        if self.peer.endpoint.startswith("tcp://"):
            host, port = self.peer.endpoint.removeprefix("tcp://").split(":")
            family, address = socket.AF_INET, (host, int(port))
        else:
            family, address = socket.AF_UNIX, self.peer.endpoint.removeprefix("ipc://")  # type: ignore[assignment]
        with contextlib.suppress(OSError), socket.socket(family) as raw:
            raw.settimeout(5)
            raw.connect(address)
            raw.sendall(data)

    def close(self) -> None:
        """Cut all connections."""
        for bad in self.open:
            bad.dealer.close()
        self.open.clear()

    def end(self) -> None:
        """Cut all connections, for good."""
        self.close()
        self.context.term()


async def fuzz(endpoint: str, runs: int, seed: int, errors: Path) -> Result:
    """Send so many inputs to a peer at an endpoint."""
    result = Result()
    peer = Peer(endpoint, errors)
    fuzzer = Fuzzer(peer, random.Random(f"{endpoint.split(':')[0]}-{seed}"), result)
    try:
        async with duplex.open_peer(name="honest") as client:
            link = await client.connect(peer.endpoint)
            remote: Any = link.service("soak").with_options(timeout=PATIENCE)
            for number in range(runs):
                await (fuzzer.zmtp() if number % 20 == 19 else fuzzer.batch())
                result.inputs += 1
                if number % CALL_EVERY == 0 or number == runs - 1:
                    started = time.monotonic()
                    assert await remote.echo(f"honest-{number}", number) == number
                    result.slowest = max(result.slowest, time.monotonic() - started)
                    result.calls += 1
                if number % LOOK_EVERY == 0 or number == runs - 1:
                    seen = await peer.report()
                    result.look({**{key: seen[key] for key in MOST}, "MiB": peer.resident()})
            fuzzer.close()
            await _until_nothing_is_left(peer, result)
    except (duplex.DuplexError, AssertionError, trio.TooSlowError) as error:
        result.findings.append(f"after {result.inputs} inputs: {type(error).__name__}: {error}")
    finally:
        fuzzer.end()
        peer.close()
    bounds = {**MOST, "MiB": MOST_MIB}
    result.findings += [
        f"the peer had {value:g} {key}, {bounds[key]} are allowed"
        for key, value in result.most.items()
        if value > bounds[key]
    ]
    result.findings += [
        f"the peer said: {text}"
        for text in unexpected(errors.read_text())
        if not text.splitlines()[-1].startswith(LIED)
    ]
    return result


async def _until_nothing_is_left(peer: Peer, result: Result) -> None:
    seen: dict[str, Any] = {}
    with trio.move_on_after(PATIENCE):
        while True:
            seen = await peer.report()
            if (seen["links"], seen["channels"], seen["held"], seen["tasks"]) == (1, 0, 0, 0):
                return
            # A pause between two questions to another process, which has no way to tell by itself.
            await trio.sleep(0.1)
    result.findings.append(f"what the links left behind: {seen}")


def run(scheme: str, runs: int, seed: int) -> Result:
    """Send so many inputs to a peer at ``tcp`` or ``ipc``."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{name}/fuzz"
        return trio.run(fuzz, endpoint, runs, seed, Path(name) / "errors.log")


def main() -> int:
    """Run, report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.live", description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scheme", choices=["tcp", "ipc"], default="tcp")
    options = parser.parse_args()
    result = run(options.scheme, options.runs, options.seed)
    sys.stdout.write("\n".join([result.describe(), *result.findings, ""]))
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
