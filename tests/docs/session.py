"""Runs a document from top to bottom, as a reader would who types everything in.

* A ``python`` block is executed, all of one document in one module, so that they may build on each other.
  A block may ``await`` at its top level; then ``server`` and ``client`` are two linked peers, and the server
  offers every service that the blocks have defined so far.
* A ``python`` block below ``<!-- file: name.py -->`` is saved under that name instead, for a command to use.
* A ``python`` block below ``<!-- fragment: why -->`` is only compiled.
* An ``output`` block is what the ``python`` block before it prints.
* In a ``console`` block, lines with ``$`` are commands, and the lines below each are what it prints.
  ``$ duplex serve`` runs on in the background; a document without it has ``examples/calc.py`` served.

Shown output may leave things out with ``...``.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import trio
import trio.testing

import duplex
from tests.docs.markdown import ROOT, Block
from tests.machine import within

#: The endpoint that documents use; what is served really is bound to a free port.
ENDPOINT: Final = "tcp://127.0.0.1:7700"

#: Seconds that one command, or one block of Python, may take.
PATIENCE: Final = 60

#: Commands that are shown and not run: they fetch or build, or are checked in another way.
NOT_RUN: Final = frozenset({"cd", "git", "make", "pip", "source"})

_ENDPOINT: Final = re.compile(r"tcp://127\.0\.0\.1:(\d+)")
_MAKE_TARGET: Final = re.compile(r"^([\w-]+):", re.MULTILINE)


class DocumentError(AssertionError):
    """A document does not do what it says."""


def same_output(shown: str, printed: str) -> bool:
    """Compare output with what a document shows of it; trailing blanks do not count."""

    def tidy(text: str) -> str:
        return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())

    return doctest.OutputChecker().check_output(tidy(shown), tidy(printed), doctest.ELLIPSIS)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Split a console block into commands and what they print."""
    command: str | None = None
    shown: list[str] = []
    continued = False
    for line in text.splitlines(keepends=True):
        if continued and command is not None:
            command += line
        elif line.startswith("$ "):
            if command is not None:
                yield command.rstrip("\n"), "".join(shown)
            command, shown = line[2:], []
        elif command is None:
            raise DocumentError(f"a console block begins with a command, not with {line!r}")
        else:
            shown.append(line)
        continued = line.endswith("\\\n") and not shown
    if command is not None:
        yield command.rstrip("\n"), "".join(shown)


def is_awaiting(source: str) -> bool:
    """Whether a block awaits something at its top level."""
    code = compile(source, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return bool(code.co_flags & inspect.CO_COROUTINE)


class Session:
    """A reader with an empty directory, a terminal and a Python prompt. Use as ``with Session(...)``.

    Args:
        directory: the empty directory.
        name: the document's.
        endpoint: where another process serves the services that the blocks define; by default this one does.
    """

    def __init__(self, directory: Path, name: str, endpoint: str | None = None) -> None:
        self._directory = directory
        self._endpoint = endpoint
        self._server: Server | None = None
        self._exit_code = 0
        self._module = types.ModuleType(re.sub(r"\W", "_", f"document {name}"))
        self._printed: str | None = None
        (directory / "examples").symlink_to(ROOT / "examples")
        self._environment = {
            "HOME": str(directory),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "COLUMNS": "80",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "PYTHONWARNINGS": "error",
            **{name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
        }

    def __enter__(self) -> Session:
        # dataclasses and msgspec look up what annotations name in the module of a class.
        sys.modules[self._module.__name__] = self._module
        return self

    def __exit__(self, *_: object) -> None:
        del sys.modules[self._module.__name__]
        if self._server is not None:
            self._server.stop()

    def run(self, blocks: list[Block]) -> None:
        """Run all blocks of a document."""
        trio.run(self._run, blocks)

    async def _run(self, blocks: list[Block]) -> None:
        async with duplex.open_peer(name="server") as server, duplex.open_peer(name="client") as client:
            await client.connect(self._endpoint or await server.bind("memory://documentation"))
            names = self._module.__dict__
            names.update(server=server, client=client)
            for block in blocks:
                offered = server.services
                for value in list(names.values()):
                    if isinstance(value, duplex.Service) and value.name not in offered:
                        server.add_service(value)
                # Both are in one trio run: the client knows of a service when nobody has anything to do.
                await trio.testing.wait_all_tasks_blocked()
                try:
                    with trio.fail_after(within(PATIENCE)):
                        await self._run_block(block)
                except Exception as error:
                    error.add_note(f"in the {block.language} block at line {block.line}")
                    raise

    async def _run_block(self, block: Block) -> None:
        if block.language == "python":
            self._printed = await self._python(block)
        elif block.language == "output":
            if self._printed is None:
                raise DocumentError("an output block without a python block before it")
            if not same_output(block.text, self._printed):
                raise DocumentError(f"shown:\n{block.text}\nprinted:\n{self._printed}")
            self._printed = None
        elif block.language == "console":
            for command, shown in commands(block.text):
                await trio.to_thread.run_sync(self._console, command, shown)

    # -- Python ----------------------------------------------------------------------------------------

    async def _python(self, block: Block) -> str | None:
        if block.file is not None:
            # A server may be in the file, or called from it; only for the latter is there an endpoint.
            text = self._real(block.text) if self._server is not None else block.text
            (self._directory / block.file).write_text(text, encoding="utf-8")
            return None
        # The line numbers of a traceback are those of the document.
        source = "\n" * (block.line - 1) + self._real(block.text)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, self._module.__name__, "exec", flags=flags, dont_inherit=True)
        if block.fragment is not None:
            return None
        names = self._module.__dict__
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if code.co_flags & inspect.CO_COROUTINE:
                await eval(code, names)
            else:
                # In a thread, so that it may call trio.run().
                await trio.to_thread.run_sync(exec, code, names)
        return printed.getvalue()

    # -- the terminal ----------------------------------------------------------------------------------

    def _real(self, text: str) -> str:
        if ENDPOINT in text and self._server is None:
            self._serve("duplex serve examples/calc.py --bind " + ENDPOINT, "")
        return text if self._server is None else text.replace(ENDPOINT, self._server.endpoint)

    def _console(self, command: str, shown: str) -> None:
        program = shlex.split(command)[0]
        if command.startswith("duplex serve "):
            self._serve(command, shown)
        elif program == "make":
            targets = _MAKE_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
            if command.split()[1] not in targets:
                raise DocumentError(f"{command}: the Makefile has no such target")
        elif program not in NOT_RUN:
            self._command(command, shown)

    def _command(self, command: str, shown: str) -> None:
        ran = subprocess.run(
            # A subshell first, so that `$?` is what the last command ended with.
            ["bash", "-c", f"(exit {self._exit_code}); {self._real(command)}"],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within(PATIENCE),
            check=False,
        )
        self._exit_code = ran.returncode
        printed = ran.stdout if self._server is None else ran.stdout.replace(self._server.endpoint, ENDPOINT)
        if not same_output(shown, printed):
            raise DocumentError(f"$ {command}\nshown:\n{shown}\nprinted:\n{printed}")

    def _serve(self, command: str, shown: str) -> None:
        if self._server is not None:
            self._server.stop()
        lines = max(1, shown.count("\n"))
        self._server = Server(command, lines, self._directory, self._environment)
        printed = self._server.greeting.replace(self._server.endpoint, ENDPOINT)
        if shown and not same_output(shown, printed):
            raise DocumentError(f"$ {command}\nshown:\n{shown}\nprinted:\n{printed}")


class Server:
    """A ``duplex serve`` of a document, on a free port instead of the one that is shown.

    Attributes:
        greeting: its first lines.
        endpoint: what it is bound to, which is in them.
    """

    def __init__(self, command: str, lines: int, directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command.replace(ENDPOINT, 'tcp://127.0.0.1:*')}"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self.greeting = "".join(itertools.islice(self._process.stdout, lines))
        found = _ENDPOINT.search(self.greeting)
        if found is None:
            self.stop()
            raise DocumentError(f"$ {command}\nprinted:\n{self.greeting}")
        self.endpoint = found[0]
        # What it logs is not shown, but somebody has to read it, or it would wait.
        self._reader = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(within(PATIENCE))
        finally:
            self._process.kill()
            self._process.wait()
        if hasattr(self, "_reader"):
            self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
