"""The test's side: starts processes, tells them what to do, harms them, and clears everything away."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Any, Final, Self, final

import trio

from tests.faults import memory
from tests.faults.ledger import executions
from tests.faults.loads import ENDLESS

ROOT: Final = Path(__file__).resolve().parents[2]

#: Seconds within which a process on a busy machine has started, and answers what takes it no time.
PATIENCE: Final = 30.0
#: Seconds that a process gets to end by itself.
_GRACE: Final = 5.0
_CHUNK: Final = 65_536


class ActorError(Exception):
    """A process answered that a command failed, or has ended."""


@final
class Child:
    """A process that is told what to do in lines of JSON, and answers each in one."""

    def __init__(self, process: trio.Process, name: str) -> None:
        self.process = process
        self.name = name
        self.pid = process.pid
        self.dead = False
        self.stopped = False
        self._next = 1
        self._sending = trio.Lock()
        self._waiting: dict[int, tuple[trio.Event, list[dict[str, Any]]]] = {}

    @classmethod
    async def start(cls, nursery: trio.Nursery, name: str, command: list[str]) -> Child:
        """Start a process and wait until it is ready."""
        process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, cwd=ROOT)
        child = cls(process, name)
        nursery.start_soon(child._read)
        try:
            with trio.fail_after(PATIENCE):
                await child._answer(0)
        except BaseException:
            process.kill()
            raise
        return child

    async def _read(self) -> None:
        rest = b""
        assert self.process.stdout is not None
        # A process that is killed may leave half a line.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while chunk := await self.process.stdout.receive_some(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    answer = json.loads(line)
                    event, box = self._slot(answer["id"])
                    box.append(answer)
                    event.set()
        self.dead = True
        for event, _ in self._waiting.values():
            event.set()

    def _slot(self, number: int) -> tuple[trio.Event, list[dict[str, Any]]]:
        return self._waiting.setdefault(number, (trio.Event(), []))

    async def _answer(self, number: int) -> Any:
        event, box = self._slot(number)
        if not self.dead:
            await event.wait()
        del self._waiting[number]
        if not box:
            raise ActorError(f"{self.name} ended instead of answering")
        if "error" in box[0]:
            raise ActorError(f"{self.name}: {box[0]['error']}")
        return box[0]["result"]

    async def ask(self, do: str, *, within: float = PATIENCE, **arguments: Any) -> Any:
        """Have a command carried out and return its result.

        Raises:
            ActorError: the command failed, or the process has ended.
            trio.TooSlowError: it took longer than ``within`` seconds.
        """
        number, self._next = self._next, self._next + 1
        line = json.dumps({"id": number, "do": do, **arguments}) + "\n"
        assert self.process.stdin is not None
        with trio.fail_after(within):
            try:
                async with self._sending:
                    await self.process.stdin.send_all(line.encode())
            except trio.BrokenResourceError:
                raise ActorError(f"{self.name} has ended") from None
            return await self._answer(number)

    # -- harm ------------------------------------------------------------------------------------------

    async def harm(self, number: signal.Signals) -> None:
        """Send the process a signal; after SIGKILL wait until it is gone."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            await self.process.wait()
        self.stopped = number == signal.SIGSTOP

    @property
    def rss(self) -> float:
        """Resident memory in MiB, now."""
        return memory.resident(self.pid)

    @property
    def peak(self) -> float:
        """The most resident memory since :meth:`reset_peak`, in MiB."""
        return memory.resident(self.pid, peak=True)

    def reset_peak(self) -> None:
        """Begin to measure the peak anew."""
        memory.reset_peak(self.pid)

    async def end(self) -> None:
        """Let the process end by itself, or else end it."""
        with trio.CancelScope(shield=True):
            if self.process.returncode is None and not self.stopped:
                assert self.process.stdin is not None
                await self.process.stdin.aclose()
                with trio.move_on_after(_GRACE):
                    await self.process.wait()
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()


@final
class Stage:
    """The processes of one fault, their files, and what must be undone at the end."""

    def __init__(self, keepalive: tuple[float, float], *, max_silence: float = 60.0) -> None:
        self.keepalive = keepalive
        self.max_silence = max_silence
        self._stack = contextlib.AsyncExitStack()
        self._files: list[Path] = []
        self._tag = 0

    async def __aenter__(self) -> Self:
        stack = self._stack
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="duplex-faults-")))
        self._nursery = await stack.enter_async_context(_nursery())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    async def child(self, name: str, command: list[str]) -> Child:
        """Start a process that ends with the stage."""
        child = await Child.start(self._nursery, name, command)
        self._stack.push_async_callback(child.end)
        return child

    async def actor(self, name: str, *, namespace: str | None = None, **options: Any) -> Child:
        """Start a process under test.

        Args:
            name: for reports.
            namespace: the network namespace it runs in.
            options: see :func:`tests.faults.actor.peer_options`.
        """
        self._tag += 1
        file = self.directory / f"executions-{self._tag}"
        self._files.append(file)
        settings = {
            "name": name,
            "tag": self._tag,
            "executions": str(file),
            "keepalive": self.keepalive,
            "max_silence": self.max_silence,
            **options,
        }
        prefix = [] if namespace is None else ["ip", "netns", "exec", namespace]
        command = [*prefix, sys.executable, "-m", "tests.faults.actor", json.dumps(settings)]
        return await self.child(name, command)

    async def pair(
        self,
        endpoint: str = "tcp://127.0.0.1:*",
        *,
        namespaces: tuple[str | None, str | None] = (None, None),
        **options: Any,
    ) -> tuple[Child, Child, str]:
        """Start a server and a client that is linked to it; return both, and the server's endpoint."""
        server = await self.actor("server", namespace=namespaces[0], **options)
        client = await self.actor("client", namespace=namespaces[1], **options)
        address = await server.ask("bind", endpoint=endpoint)
        await client.ask("connect", endpoint=address)
        await server.ask("wait_links", count=1)
        return server, client, address

    def executions(self) -> Counter[int]:
        """Return how often each call was executed, by all processes together."""
        return executions(*self._files)


@contextlib.asynccontextmanager
async def _nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks end with its block, and whose block's own error is not wrapped in a group."""
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as raised:
            error = raised
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error


async def run_load(child: Child, kinds: list[str], tasks: int, *, length: int, times: int = 1) -> None:
    """Have calls made that end by themselves, and wait for them."""
    assert length < ENDLESS
    await child.ask("load", kinds=kinds, tasks=tasks, length=length, times=times, again=False)
    await child.ask("wait_load", within=2 * PATIENCE)
