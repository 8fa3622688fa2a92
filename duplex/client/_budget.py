"""How many attempts there may be beyond the first ones: gRPC's retry throttling (gRFC A6)."""

from __future__ import annotations

from typing import Final, Protocol, final

#: Budgets that are kept before those of which nothing is taken are forgotten.
_MOST_UNUSED: Final = 64


class Throttling(Protocol):
    """How much there is: see :class:`duplex.RetryPolicy`."""

    @property
    def max_tokens(self) -> float:
        """Tokens of a budget that is full."""

    @property
    def token_ratio(self) -> float:
        """Tokens that a call gives back which succeeds."""


@final
class Budget:
    """Tokens: failed attempts take them, and calls that succeed give some back.

    So attempts beyond the first ones are a small part of all while servers are well, and none while they are not.
    """

    def __init__(self, throttling: Throttling) -> None:
        self._most = throttling.max_tokens
        self._ratio = throttling.token_ratio
        self._tokens = self._most

    def succeeded(self) -> None:
        """A call has succeeded."""
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + self._ratio)

    def failed(self) -> None:
        """An attempt has failed in a way after which another one would make sense."""
        self._tokens = max(0.0, self._tokens - 1)

    @property
    def allows_more(self) -> bool:
        """Whether there may be another attempt."""
        return self._tokens > self._most / 2

    @property
    def is_full(self) -> bool:
        """Whether it is as if it were new."""
        return self._tokens >= self._most


@final
class Budgets:
    """The budgets of one peer, by service: one for all who call it with the same numbers."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, float, float], Budget] = {}
        self._sweep_at = _MOST_UNUSED

    def of(self, service: str, throttling: Throttling) -> Budget:
        """Return the budget of a service."""
        key = service, throttling.max_tokens, throttling.token_ratio
        found = self._budgets.get(key)
        if found is None:
            if len(self._budgets) >= self._sweep_at:
                self._budgets = {key: budget for key, budget in self._budgets.items() if not budget.is_full}
                self._sweep_at = max(_MOST_UNUSED, 2 * len(self._budgets))
            found = self._budgets[key] = Budget(throttling)
        return found
