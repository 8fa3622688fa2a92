"""One document, over and over: ``python -m tests.stress.document NAME ROUNDS SEED``.

What the blocks of a document call is served by another process, which has executed the blocks that define it. What a
document shows of a terminal has its server in a process of its own anyway. Every round prints a line, as JSON: ``"ok"``,
or what was wrong.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Final

import trio

import duplex
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.session import Session, is_awaiting
from tests.engine.helpers import process, serve_until_eof
from tests.wires.place import shuffle_tasks

#: Those whose blocks call services over an endpoint, or show a terminal that does.
DOCUMENTS: Final = (
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/tutorial/*.md")),
)


def blocks_of(name: str) -> list[Block]:
    """Return the blocks of a document."""
    return blocks((ROOT / name).read_text(encoding="utf-8"))


def definitions(name: str) -> list[duplex.Service]:
    """Execute the blocks that define something, and return the services."""
    module = types.ModuleType("document")
    sys.modules[module.__name__] = module  # where the types of annotations are looked up
    for block in blocks_of(name):
        if (
            block.language == "python"
            and not block.file
            and not block.fragment
            and not is_awaiting(block.text)
        ):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, name, "exec", dont_inherit=True), module.__dict__)
    return [value for value in vars(module).values() if isinstance(value, duplex.Service)]


def one_round(name: str, number: int, seed: str) -> str:
    """Run a document; return what is wrong, or nothing."""
    shuffle_tasks(f"{seed} {number}")
    try:
        with (
            tempfile.TemporaryDirectory() as directory,
            process("tests.stress.document", name) as (_, endpoint),
            Session(Path(directory), name, endpoint) as session,
        ):
            session.run(blocks_of(name))
    except Exception:
        return traceback.format_exc()
    return ""


def main(name: str, rounds: int, seed: str) -> None:
    """Run the rounds."""
    for number in range(rounds):
        sys.stdout.write(json.dumps(one_round(name, number, seed) or "ok") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        served = definitions(sys.argv[1])
        trio.run(lambda: serve_until_eof(*served, endpoint="tcp://127.0.0.1:*", name="server"))
    else:
        main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
