"""Callbacks: a function travels as an argument, or as a result, and is called back over the same link.

Only parameters annotated ``Callback`` take one, and it can be called as long as the call lasts that brought
it. Nothing else of the other process can be reached.
"""

from __future__ import annotations

import trio

import duplex

jobs = duplex.Service("jobs")


@jobs.rpc
async def run(steps: list[str], progress: duplex.Callback[[str, int], None]) -> str:
    """Do some steps, telling the caller about each."""
    for number, step in enumerate(steps, 1):
        await progress(step, 100 * number // len(steps))
    return f"{len(steps)} steps done"


@jobs.rpc
async def ask(questions: list[str], answer: duplex.Callback[[str], str]) -> dict[str, str]:
    """Ask the caller some questions; a callback returns a value, like any call."""
    return {question: await answer(question) for question in questions}


@jobs.rpc
async def counter() -> duplex.Callback[[int], int]:
    """Return a function, which the caller may use until it leaves the call."""
    total = 0

    async def add(number: int) -> int:
        nonlocal total
        total += number
        return total

    return add


async def main() -> None:
    async with duplex.open_peer(services=[jobs]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("jobs")

        def show(step: str, percent: int) -> None:
            print(f"{percent:3} % {step}")

        print(await remote.run(["fetch", "build", "test", "ship"], show))

        async def answer(question: str) -> str:
            await trio.lowlevel.checkpoint()  # a callback may wait for anything
            return question.removesuffix("?").upper()

        print(await remote.ask(["who?", "where?"], answer))

        async with remote.counter.open() as call:
            add = await call.result()
            print("counted:", await add(2), await add(40))
        try:
            await add(1)
        except duplex.FailedPrecondition as error:
            print("later:", error.message)


if __name__ == "__main__":
    trio.run(main)
