"""What ``method.open(...)`` returns."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, final

from duplex.engine.calling import Opening, OutgoingCall


@final
class OpenCall:
    """The context manager that ``method.open(...)`` returns."""

    __slots__ = ("_is_used", "_method", "_opening")

    def __init__(self, method: str, opening: Opening) -> None:
        self._method = method
        self._opening = opening
        self._is_used = False

    if not TYPE_CHECKING:  # what a type checker refuses says here what to do

        def __getattr__(self, name: str) -> Never:
            raise AttributeError(f"{self._not_entered()}; then call.{name}")

        def __aiter__(self) -> Never:
            raise TypeError(f"{self._not_entered()}; then async for ... in call")

        def __await__(self) -> Never:
            raise TypeError(
                f"{self._not_entered()}; or, for one result, await the method itself, without open()"
            )

    def _not_entered(self) -> str:
        return f"{self._method}: open() begins no call, its block does: async with ....open(...) as call"

    async def __aenter__(self) -> OutgoingCall[Any, Any]:
        if self._is_used:
            raise RuntimeError("open() gives a context manager for one use; call it again for another call")
        self._is_used = True
        call: OutgoingCall[Any, Any] = await self._opening.__aenter__()
        return call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._opening.__aexit__(exc_type, exc, traceback)
