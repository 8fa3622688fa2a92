"""Which texts are keys, which are prefixes, and which belong to the store."""

from __future__ import annotations

import unicodedata

from duplex_services.store._model import MAX_KEY_BYTES, TooLarge


def check_key(key: object, *, own: bool = False) -> str:
    """Return a key as it is, if it is one.

    Args:
        key: what somebody gave.
        own: whether it may be one of the store's own, whose first character is ``_``.

    Raises:
        TypeError: it is no text.
        ValueError: what is wrong about it.
        TooLarge: it has too many bytes.
    """
    text = check_prefix(key)
    if not text:
        raise ValueError("a key is not empty")
    for part in text.split("/"):
        if part in ("", ".", ".."):
            problem = (
                f"{part!r} is no part of a key" if part else "a part of it is empty: look at its slashes"
            )
            raise ValueError(f"{text!r} is no key: {problem}")
    if text.startswith("_") and not own:
        raise ValueError(f"{text!r} is no key of yours: those that begin with _ are the store's own")
    return text


def check_prefix(prefix: object) -> str:
    """Return the beginning of keys as it is, if it can be one; ``""`` is the beginning of all.

    Raises:
        TypeError: it is no text.
        ValueError: what is wrong about it.
        TooLarge: it has more bytes than any key.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"a key is a str, not {type(prefix).__name__} ({prefix!r:.60})")
    try:
        size = len(prefix.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{prefix!r:.100} is no key: it has surrogates, which are no text") from None
    if size > MAX_KEY_BYTES:
        raise TooLarge(f"bytes of the key {prefix[:40]!r}…", size, MAX_KEY_BYTES)
    if any(unicodedata.category(letter) == "Cc" for letter in prefix):
        raise ValueError(f"{prefix!r} is no key: it has control characters")
    return prefix


def is_shown(key: str, prefix: str | None) -> bool:
    """Whether who asks for a prefix is told of a key: the store's own only to who asks for them, or for all (``None``)."""
    if prefix is None:
        return True
    return key.startswith(prefix) and (not key.startswith("_") or prefix.startswith("_"))
