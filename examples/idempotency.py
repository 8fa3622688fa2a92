"""A payment that is made once, although the caller loses its link and has to ask again.

An idempotency key is the caller's name for what a call is to do. The other side runs the handler once for it, even
while nobody is linked to wait, and answers every repetition with the outcome of that run.
"""

from __future__ import annotations

import trio

import duplex

bank = duplex.Service("bank")
paid: list[tuple[str, int]] = []
being_paid = trio.Event()
clerk_is_back = trio.Event()


@bank.rpc
async def pay(to: str, amount: int) -> str:
    """Pay, which takes a while, and return the number of the receipt."""
    print(f"paying {amount} to {to}")
    being_paid.set()
    await clerk_is_back.wait()
    paid.append((to, amount))
    return f"receipt {len(paid)}"


async def pay_surely(client: duplex.Peer, to: str, amount: int, key: str) -> str:
    """Pay as often as it takes to learn how it ended."""
    remote = client.service("bank").with_options(idempotency_key=key)
    while True:
        try:
            return str(await remote.pay(to, amount))
        except duplex.PeerLost as error:
            # The money may have been paid or not. With the key it is safe to ask again.
            print(f"the link was lost; it may have been executed: {error.may_have_executed}")
            clerk_is_back.set()


async def main() -> None:
    async with (
        # Outcomes are remembered for two minutes, unless the server says otherwise.
        duplex.open_peer(services=[bank], idempotency=duplex.Idempotency(ttl=600)) as server,
        duplex.open_peer() as client,
    ):
        await client.connect(await server.bind("tcp://127.0.0.1:*"))

        async def cut() -> None:
            await being_paid.wait()
            await server.links[0].aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            print(await pay_surely(client, "ann", 100, key="order-17"))

        print("asked again later:", await pay_surely(client, "ann", 100, key="order-17"))
        print("another order:", await pay_surely(client, "ann", 100, key="order-18"))
        print("paid:", paid)

        try:
            await pay_surely(client, "bob", 100, key="order-17")
        except duplex.FailedPrecondition as error:
            print("refused:", error.message)


if __name__ == "__main__":
    trio.run(main)
