"""Which instances a server of discovery keeps, and which of them have been silent for too long."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Seconds between two looks after which this process was stopped itself, and has missed what others said.
_MOST_GAP: Final = 1.0

#: How long an instance stays whose server is gone: in TTLs, and in seconds at least.
_ORPHAN_TTLS: Final = 2.0
_LEAST_GRACE: Final = 3.0

#: Seconds by which each further server waits for those before it to do what is to be done once.
RANK_PAUSE: Final = 1.0


class What(NamedTuple):
    """An instance."""

    service: str
    id: str


class Life(NamedTuple):
    """What is known of whether an instance lives.

    Attributes:
        token: of the registration that keeps it; what is said with another one comes too late.
        ttl: seconds of silence after which it is gone.
        until: when that will be; ``None`` while a call is open that keeps it.
        heard: when it was last known to live.
    """

    token: str
    ttl: float
    until: float | None
    heard: float


class Liveness:
    """The instances that this server keeps. Times are seconds that never jump."""

    def __init__(self, now: float) -> None:
        self._lives: dict[What, Life] = {}
        self._looked = now

    def __len__(self) -> int:
        return len(self._lives)

    def __contains__(self, what: tuple[str, str]) -> bool:
        return what in self._lives

    def get(self, what: tuple[str, str]) -> Life | None:
        """Return what is known of an instance; ``None`` if it is not kept here."""
        return self._lives.get(What(*what))

    def begin(self, what: What, token: str, ttl: float, now: float, *, is_held: bool) -> None:
        """Keep an instance, and nothing any more that an earlier registration of it says.

        Args:
            what: which.
            token: of the registration.
            ttl: seconds.
            now: the time.
            is_held: a call is open that keeps it.
        """
        self._lives[what] = Life(token, ttl, None if is_held else now + ttl, now)

    def beat(self, what: What, token: str, now: float) -> bool:
        """Note a sign of life. Tells whether it is of the registration that keeps the instance."""
        life = self._lives.get(what)
        if life is None or life.token != token:
            return False
        until = None if life.until is None else now + life.ttl
        self._lives[what] = life._replace(until=until, heard=now)
        return True

    def let_go(self, what: What, token: str, now: float) -> None:
        """Note that the call that kept an instance was lost: from now on it is silent."""
        life = self._lives.get(what)
        if life is not None and life.token == token:
            self._lives[what] = life._replace(until=now + life.ttl, heard=now)

    def has_spoken(self, what: What, since: Life) -> bool:
        """Whether something was heard of an instance after what was known of it then, or it registered anew. That it was given
        more time is no sign of life."""
        life = self._lives.get(what)
        return life is not None and (life.token, life.heard) != (since.token, since.heard)

    def end(self, what: What, token: str | None = None) -> bool:
        """Keep an instance no more. Tells whether it was kept, by that registration if one is named."""
        life = self._lives.get(what)
        if life is None or token not in (None, life.token):
            return False
        del self._lives[what]
        return True

    def silent(self, now: float) -> list[What]:
        """Return the instances whose time is over. Call it often: if it was not called for long, this process was stopped, and
        what it did not hear in that time is nobody's silence."""
        gap = now - self._looked
        self._looked = now
        if gap > _MOST_GAP:
            self._lives = {
                what: life if life.until is None else life._replace(until=life.until + gap)
                for what, life in self._lives.items()
            }
            return []
        return [what for what, life in self._lives.items() if life.until is not None and life.until <= now]


def sweep_at(since: float, ttl: float, rank: int) -> float:
    """Return when an instance is deleted whose server is gone.

    Args:
        since: since when it is.
        ttl: of the instance.
        rank: how many servers are before this one, and do it sooner if they live.
    """
    return since + max(_ORPHAN_TTLS * ttl, _LEAST_GRACE) + RANK_PAUSE * rank


def rank_of(server: str, servers: list[str]) -> int:
    """Return how many of the servers that live are before one, in what one of them is to do."""
    return sum(name < server for name in servers) if server in servers else len(servers)
