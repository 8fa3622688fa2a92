"""Tags: a text with commas, in which ``\\,`` stands for a comma."""

from __future__ import annotations


def split_tags(text: str) -> list[str]:
    r"""Return the tags in a text, in order: split at commas, of which ``\,`` is none; empty ones vanish, and nothing is trimmed."""
    tags = [""]
    for character in text:
        if character != ",":
            tags[-1] += character
        elif tags[-1].endswith("\\"):
            tags[-1] = tags[-1][:-1] + ","
        else:
            tags.append("")
    return [tag for tag in tags if tag]


def combine_tags(*texts: str, compat: bool) -> tuple[str, ...]:
    """Return the tags of several texts, each once.

    Args:
        texts: each with tags.
        compat: as Registrator: those of each text in reverse, and as often as they are said.
    """
    if compat:
        return tuple(tag for text in texts for tag in reversed(split_tags(text)))
    return tuple(dict.fromkeys(tag for text in texts for tag in split_tags(text)))
