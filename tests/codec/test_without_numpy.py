"""What happens where numpy is not installed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from duplex._errors import DecodeError, EncodeError
from duplex.codec import foreign_types
from duplex.codec._msgpack import MsgpackCodec

ARRAY = msgspec.msgpack.encode(
    msgspec.msgpack.Ext(2, msgspec.msgpack.encode(("|u1", [3], b"abc"))),
)


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)


@pytest.mark.usefixtures("no_numpy")
def test_an_array_that_arrives_says_what_to_install() -> None:
    codec = MsgpackCodec()
    for annotation in (Any, list[int]):
        with pytest.raises(DecodeError, match=r"numpy is missing here: install duplex-rpc\[numpy\]$"):
            codec.decoder(annotation)(ARRAY, (), None)


@pytest.mark.usefixtures("no_numpy")
def test_all_else_works() -> None:
    codec = MsgpackCodec()
    value = {"x": [1, bytes(70_000)], "y": "z"}
    payload, attachments = codec.encode(value)
    assert codec.decoder(dict[str, Any])(payload, attachments, None) == value
    with pytest.raises(EncodeError, match=r"values of type object cannot travel"):
        codec.encode([object()])

    class Other:
        pass

    assert foreign_types(list[Other]) == (Other,)
    assert codec.decoder(list[object])(b"\x91\x05", (), None) == [5]


def test_the_codec_does_not_import_numpy() -> None:
    code = (
        "import sys; from duplex.codec import CODECS; c = CODECS['msgpack'];"
        "c.decoder(dict[str, int])(*c.encode({'a': 1}), None);"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
