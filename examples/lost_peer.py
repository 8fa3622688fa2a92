"""Two processes, and one of them is killed: the call that waits for it fails at once, and says so.

``PeerLost`` tells whether the handler may have run, which is what a caller has to know before it tries again.
"""

from __future__ import annotations

import subprocess
import sys

import trio
import trio.testing

import duplex

patient = duplex.Service("patient")


@patient.rpc
async def wait() -> None:
    """Never return."""
    await trio.sleep_forever()


async def serve() -> None:
    async with duplex.open_peer(services=[patient], name="victim") as peer:
        print(await peer.bind("tcp://127.0.0.1:*"), flush=True)
        await trio.sleep_forever()


async def call(endpoint: str, process: subprocess.Popen[str]) -> None:
    async with duplex.open_peer() as client, trio.open_nursery() as nursery:
        await client.connect(endpoint)
        remote = client.service("patient")

        async def call_wait() -> None:
            try:
                await remote.wait()
            except duplex.PeerLost as error:
                print(f"{error.method} at {error.peer} failed with {error.code.name}")
                print("it may have run:", error.may_have_executed)

        nursery.start_soon(call_wait)
        await trio.testing.wait_all_tasks_blocked()
        print("killing the server")
        process.kill()


def main() -> None:
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            trio.run(call, process.stdout.readline().strip(), process)
        finally:
            process.kill()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        main()
