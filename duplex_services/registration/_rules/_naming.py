"""What services of containers are called."""

from __future__ import annotations

import re
from typing import Final

#: What an image is called that has no name, only a digest.
_DIGEST: Final = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


def image_name(image: str) -> str:
    """Return what a service is called after its image: ``example/web:2`` gives ``web``; empty if the image has no name."""
    name = image.partition("@")[0]
    if _DIGEST.fullmatch(name):
        return ""
    return name.rpartition("/")[2].partition(":")[0]


def compat_image_name(image: str) -> str:
    """Return what Registrator calls a service after its image: what stands after the last slash, up to the first colon."""
    return image.rstrip("/").rpartition("/")[2].partition(":")[0]
