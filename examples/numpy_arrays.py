"""Large arrays: buffers travel beside the message, not inside it, and are not copied into it.

The receiving peer says how large a message may be, 16 MiB by default. The sender knows, so a message that is
too large fails before anything is sent, and both numbers are in the error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import trio

import duplex

MIB = 1024 * 1024

arrays = duplex.Service("arrays")


@arrays.rpc
async def echo(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what came."""
    return array


@arrays.rpc
async def column_means(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of every column."""
    means: npt.NDArray[np.float64] = array.mean(axis=0)
    return means


async def main() -> None:
    large = np.arange(8 * MIB, dtype=np.float64).reshape(-1, 1024)
    print("the array has", large.nbytes // MIB, "MiB and the shape", large.shape)

    async with duplex.open_peer(services=[arrays]) as server, duplex.open_peer() as client:
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        remote = client.service("arrays")
        print("means:", await remote.column_means(large[:4, :3]))
        try:
            await remote.echo(large)
        except duplex.MessageTooLarge as error:
            print("refused: over", error.limit // MIB, "MiB; sent:", error.may_have_executed)

    limits = duplex.Limits(max_message=80 * MIB)
    async with (
        duplex.open_peer(services=[arrays], limits=limits) as server,  # takes the array
        duplex.open_peer(limits=limits) as client,  # takes it back
    ):
        await client.connect(await server.bind("tcp://127.0.0.1:*"))
        returned = await client.service("arrays").echo(large)
        print("echoed:", returned.dtype, returned.shape, "equal:", np.array_equal(returned, large))


if __name__ == "__main__":
    trio.run(main)
