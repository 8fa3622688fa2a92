"""Runs one target under atheris: ``python -m tests.fuzz.run TARGET [atheris's options] CORPUS...``."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Run it; atheris ends the process."""
    import atheris

    fuzzer: Any = atheris
    with fuzzer.instrument_imports(include=["duplex"]):
        from tests.fuzz.inputs import Mutator
        from tests.fuzz.targets import TARGETS

    name, *options = sys.argv[1:]
    #: Bytes before those that are a conversation, or like one.
    head = 1 if name == "codec" else 0

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        source = random.Random(seed)
        if name == "zmtp" or source.random() < 0.2:
            return bytes(fuzzer.Mutate(data, most))
        return (data[:head] + Mutator(source).change(data[head:]))[:most]

    directories = [option for option in options if not option.startswith("-")]
    for directory in directories:
        Path(directory).mkdir(parents=True, exist_ok=True)
    fuzzer.Setup([sys.argv[0], *options], TARGETS[name], custom_mutator=mutate)
    fuzzer.Fuzz()


if __name__ == "__main__":
    main()
