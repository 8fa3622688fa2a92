"""Who a peer is, as far as it has been proved: :class:`Identity`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, final

from duplex._errors import ConfigurationError


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer is, and how that was proved. ``Identity()`` is nobody in particular: nothing was proved.

    What a peer says of itself, its name and its id, is no part of it: anybody may say that.

    Args:
        principal: who it is, such as ``billing`` or ``uid:1000``.
        proof: how that is known, such as ``key`` or ``token``; ``none``, and only for ``anonymous``, if nothing was proved.
        attributes: what else is known, such as roles, for what decides what the peer may do. A copy is kept.

    Raises:
        ConfigurationError: a part is of the wrong type, or the principal or the proof is empty, or only one of
            them says that nothing was proved.
    """

    principal: str = "anonymous"
    proof: str = "none"
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        parts: dict[str, object] = {"principal": self.principal, "proof": self.proof}
        for what, value in parts.items():
            if not isinstance(value, str) or not value:
                raise ConfigurationError(
                    f"the {what} of an identity is a str that is not empty, not {value!r}"
                )
        if (self.principal == "anonymous") is not (self.proof == "none"):
            raise ConfigurationError(
                f"an identity is 'anonymous' exactly if its proof is 'none'; this one is {self.principal!r} by {self.proof!r}"
            )
        if not isinstance(self.attributes, Mapping):
            raise ConfigurationError(f"the attributes of an identity are a mapping, not {self.attributes!r}")
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing was proved."""
        return self.proof == "none"

    def __str__(self) -> str:
        return self.principal

    def __reduce__(self) -> tuple[Any, ...]:
        return Identity, (self.principal, self.proof, dict(self.attributes))


#: Who a peer is of whom nothing was proved.
ANONYMOUS: Final = Identity()
