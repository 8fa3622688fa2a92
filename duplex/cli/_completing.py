"""Completion of endpoints in a shell: the names behind ``discovery://``, asked from a directory while one presses the tab key.

Imported only then. Nothing is written to the terminal but names; what goes wrong means that there are none.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final, final

import click
import trio
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

import duplex
from duplex._authentication import checked_credentials
from duplex.cli._options import credentials
from duplex.cli._tls_options import tls
from duplex.resolvers import Linking, open_directory

_SCHEME: Final = "discovery://"
#: Seconds that somebody waits for names.
_WITHIN: Final = 1.0
#: What click's script gives, and what it is to give instead: the line as it is typed, and whether the shell takes a colon for the end
#: of a word.
_WORDS: Final = 'COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD'
_LINE: Final = 'COMP_WORDS="${COMP_LINE:0:$COMP_POINT}" COMP_COLONS="${COMP_WORDBREAKS//[^:]/}"'


def endpoints(servers: tuple[str, ...], incomplete: str) -> list[CompletionItem[str]]:
    """Return the endpoints with which what was typed may go on.

    Args:
        servers: where names are looked up; empty for where that is done by default.
        incomplete: what was typed of it.
    """
    if not (incomplete.startswith(_SCHEME) or _SCHEME.startswith(incomplete)) or not incomplete:
        return []
    try:
        names = trio.run(_names, servers)
    except (duplex.DuplexError, OSError):
        return []
    return [CompletionItem(found) for name in names if (found := _SCHEME + name).startswith(incomplete)]


async def _names(servers: tuple[str, ...]) -> list[str]:
    directory = open_directory(
        servers, duplex.Advertise(), Linking(credentials=checked_credentials(credentials()), tls=tls())
    )
    names: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.run)
        # That it cannot be asked means that there are no names, which an error out of a nursery would not tell.
        with trio.move_on_after(_WITHIN), contextlib.suppress(duplex.RPCError):
            names += await directory.names()
        nursery.cancel_scope.cancel()
    return sorted(names)


@final
class Bash(BashComplete):
    """Completion in bash, which takes the colon in an endpoint for the end of a word, and so gives its parts one by one."""

    source_template = BashComplete.source_template.replace(_WORDS, _LINE)

    def __init__(
        self, cli: click.Command, ctx_args: dict[str, object], prog_name: str, complete_var: str
    ) -> None:
        super().__init__(cli, ctx_args, prog_name, complete_var)
        #: What stands before the part that the shell is to replace.
        self._before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and what was typed of the last one."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        if os.environ.get("COMP_COLONS") and ":" in incomplete:
            self._before = incomplete[: incomplete.rindex(":") + 1]
        return words, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a line for the script."""
        return f"{item.type},{item.value.removeprefix(self._before)}"


def prepare() -> None:
    """Have click use it."""
    add_completion_class(Bash)
