"""From the payload of a call to the arguments of a Python function.

A payload is ``[positional, keyword]``, or ``[positional]`` without keywords. There are two ways through it:

* The **fast way** serves ordinary signatures, and payloads without attachments: one pass of a compiled decoder
  parses and validates the whole.
* The **slow way** serves everything else: decode what comes, bind it as Python would, convert each argument.

The slow way defines what is right and makes every error message: where the fast way fails for whatever reason,
the slow way has the last word. So the fast way must never *accept* anything else, and it must leave no trace
when it fails. Importing a callback or a channel would leave one, which is why it is not given ``live``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import trio
from msgspec import UNSET
from msgspec.structs import astuple

from duplex._errors import ConfigurationError, DecodeError, InvalidArgument
from duplex.codec._base import Buffer, Codec, Decoder, LiveValues, Unconnected
from duplex.codec._elements import MANY_BYTES, many_objects
from duplex.codec._extensions import LARGE
from duplex.service._wire import Wire, named_fields, wire_type

#: What stands in :attr:`Parameter.default` for a parameter that must be given.
REQUIRED: Final = inspect.Parameter.empty

_POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
_EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_VAR_POSITIONAL: Final = inspect.Parameter.VAR_POSITIONAL
_KEYWORD_ONLY: Final = inspect.Parameter.KEYWORD_ONLY
_VAR_KEYWORD: Final = inspect.Parameter.VAR_KEYWORD
_BY_POSITION: Final = (_POSITIONAL_ONLY, _EITHER)
_BY_NAME: Final = (_EITHER, _KEYWORD_ONLY)

#: Longest piece of what the caller sent that is repeated in an error message.
_LONGEST_QUOTE: Final = 200
#: How decoders end a message that is about something within the value.
_PATH: Final = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
#: The same where the value is the whole payload, and the path begins with one of its arguments.
_WIRE_PATH: Final = re.compile(
    r"(?P<what>.*) - at (?P<key>`key` in )?`\$(?:\[0\]\[(?P<slot>\d+)\]|\[1\]\.(?P<name>\w+))(?P<path>.*)`",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        name: as in the function.
        kind: one of the kinds of :class:`inspect.Parameter`.
        annotation: the resolved type; ``Any`` without annotation.
        default: what Python uses if it is not given; :data:`REQUIRED` if it must be.
    """

    name: str
    kind: Any
    annotation: Any = Any
    default: Any = REQUIRED

    @property
    def variadic(self) -> bool:
        """Whether it is ``*args`` or ``**kwargs``."""
        return self.kind in (_VAR_POSITIONAL, _VAR_KEYWORD)

    @property
    def required(self) -> bool:
        """Whether a call without it fails."""
        return self.default is REQUIRED and not self.variadic


@final
class Binder:
    """Turns payloads into arguments for one function.

    Args:
        method: what error messages begin with.
        parameters: all parameters, in their order, the stream parameter included.
        stream_parameter: the name of the parameter that the engine fills by name, or ``None``.
        stream_is_value: whether the caller may pass a channel for the stream parameter.
        compiles: whether the fast way can serve all types in the signature, and is worth its preparation.
    """

    __slots__ = (
        "_by_name",
        "_compiled",
        "_compiles",
        "_keyword_only",
        "_method",
        "_named_fields",
        "_needed",
        "_required",
        "_required_slots",
        "_slot_names",
        "_slots",
        "_split",
        "_stream",
        "_stream_is_value",
        "_var_keyword",
        "_var_positional",
    )

    def __init__(
        self,
        method: str,
        parameters: Sequence[Parameter],
        *,
        stream_parameter: str | None = None,
        stream_is_value: bool = False,
        compiles: bool = False,
    ) -> None:
        self._method = method
        self._stream = next((p for p in parameters if p.name == stream_parameter), None)
        self._stream_is_value = stream_is_value
        ordinary = [p for p in parameters if p is not self._stream]
        self._slots = [p for p in ordinary if p.kind in _BY_POSITION]
        self._keyword_only = [p for p in ordinary if p.kind is _KEYWORD_ONLY]
        self._by_name = {p.name: p for p in ordinary if p.kind in _BY_NAME}
        self._required = [p.name for p in ordinary if p.required]
        self._required_slots = sum(p.required for p in self._slots)
        self._var_positional = next((p for p in parameters if p.kind is _VAR_POSITIONAL), None)
        self._var_keyword = next((p for p in parameters if p.kind is _VAR_KEYWORD), None)
        # The engine fills the stream parameter by name, so what stands behind it must be named as well.
        self._split = len(self._slots)
        if self._stream is not None and self._stream.kind is _EITHER:
            self._split = [p for p in parameters if p.kind in _BY_POSITION].index(self._stream)
        self._named_fields = named_fields(self._by_name)
        self._slot_names = [p.name for p in self._slots]
        # What must come by name if so many arguments came by position.
        self._needed = [
            [p.name for p in (*self._slots[given:], *self._keyword_only) if p.required]
            for given in range(len(self._slots) + 1)
        ]
        self._compiles = compiles and not (self._stream or self._var_positional or self._var_keyword)
        # One attribute, so that no thread ever sees one codec beside another's decoder.
        self._compiled: tuple[Codec | None, Decoder | None] = (None, None)

    def bind(
        self, codec: Codec, payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """See :meth:`duplex.engine._handler.Handler.arguments`."""
        for_codec, decode = self._compiled
        if for_codec is not codec:
            decode = self._compile(codec)
        if decode is not None and not attachments:
            try:
                # Small payloads need no bounds.
                bounds = None if live is None or len(payload) <= LARGE else Unconnected(0, live.max_elements)
                wire = decode(payload, (), bounds)
            except DecodeError as error:
                # Whether it is wrong, and in what words, the slow way says, unless that would take long.
                if len(payload) > LARGE:
                    self._refuse(error)
            else:
                bound = self._bind_fast(wire)
                if bound is not None:
                    return bound
        return self.bind_slowly(codec, payload, attachments, live)

    # -- the fast way ----------------------------------------------------------------------------------

    def _compile(self, codec: Codec) -> Decoder | None:
        decode = None
        if self._compiles:
            named = tuple((p.name, p.annotation) for p in self._by_name.values())
            try:
                decode = codec.decoder(wire_type(tuple(p.annotation for p in self._slots), named))
            except ConfigurationError:
                pass  # this codec does not carry one of the types; conversion says so if it comes to that
        self._compiled = (codec, decode)
        return decode

    def _refuse(self, error: DecodeError) -> None:
        """Raise what the slow way would, if an error of the fast way is about something in one argument."""
        match = _WIRE_PATH.fullmatch(str(error))
        if match is None:
            return
        slot, name = match["slot"], match["name"]
        if slot is not None:
            name = self._slot_names[int(slot)]
        path = match["path"]
        what = match["what"] + (f" - at {match['key'] or ''}`${path}`" if path or match["key"] else "")
        raise self._invalid(f": argument {_quote(name)}{_explain(DecodeError(what), ': ')}") from None

    def _bind_fast(self, wire: Wire) -> tuple[Sequence[Any], dict[str, Any]] | None:
        """Return the arguments in a payload of the compiled type; ``None`` if they do not fit together."""
        values = astuple(wire.positional)
        given = len(values)
        while given and values[given - 1] is UNSET:
            given -= 1
        named: dict[str, Any] = {}
        keyword = wire.keyword
        if keyword is not UNSET:
            for field, name in self._named_fields:
                value = getattr(keyword, field)
                if value is not UNSET:
                    named[name] = value
            for name in self._slot_names[:given]:
                if name in named:
                    return None
        for name in self._needed[given]:
            if name not in named:
                return None
        return (values if given == len(values) else values[:given]), named

    # -- the slow way ----------------------------------------------------------------------------------

    def bind_slowly(
        self, codec: Codec, payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """The same as :meth:`bind`, without its shortcut."""
        if len(payload) <= MANY_BYTES:
            return self._bind_slowly(codec, payload, attachments, live)
        with many_objects():
            return self._bind_slowly(codec, payload, attachments, live)

    def _bind_slowly(
        self, codec: Codec, payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        try:
            args, keyword = codec.decode_arguments(payload, attachments, live, views=True)
        except DecodeError as error:
            raise self._invalid(f": {_explain(error)}") from None
        named: dict[str, Any] = {}

        stream = self._stream
        channel: Any = None
        if stream is not None:
            channel = self._take_channel(stream, args, keyword)

        rest: list[Any] = []
        if len(args) > len(self._slots):
            if self._var_positional is None:
                raise self._invalid(self._too_many(len(args)))
            rest = args[len(self._slots) :]
            del args[len(self._slots) :]
        given = len(args)
        for index, value in enumerate(args):
            parameter = self._slots[index]
            args[index] = self._convert(codec, parameter.name, "", parameter.annotation, value, live)
        if self._var_positional is not None:
            name, annotation = self._var_positional.name, self._var_positional.annotation
            args.extend(
                self._convert(codec, name, f"[{index}]", annotation, value, live)
                for index, value in enumerate(rest)
            )
        taken = {p.name for p in self._slots[:given]}
        for name, value in keyword.items():
            named[name] = self._convert(codec, name, "", self._annotation_of(name, taken), value, live)
        missing = [name for name in self._required if name not in taken and not self._is_named(name, named)]
        if missing:
            quoted = ", ".join(repr(name) for name in missing)
            raise self._invalid(f": missing argument{'s' if len(missing) > 1 else ''} {quoted}")
        if given > self._split:
            named.update((self._slots[i].name, args[i]) for i in range(self._split, given))
            del args[self._split :]
        if channel is not None and stream is not None:
            named[stream.name] = self._convert(codec, stream.name, "", stream.annotation, channel, live)
        return args, named

    def _take_channel(self, stream: Parameter, args: list[Any], keyword: dict[str, Any]) -> Any:
        """Take the channel that the caller passed as a value for the stream parameter, if so, out of the rest."""
        if stream.name in keyword:
            if not self._stream_is_value:
                raise self._invalid(f": argument {stream.name!r} is the call's own channel; send on the call")
            return keyword.pop(stream.name)
        takes_it = self._stream_is_value and stream.kind is _EITHER and len(args) > self._split
        if takes_it and isinstance(args[self._split], trio.abc.ReceiveChannel):
            return args.pop(self._split)
        return None

    def _annotation_of(self, name: Any, taken: set[str]) -> Any:
        """Return the type of a named argument, or raise what is wrong with its being there."""
        parameter = self._by_name.get(name)
        if parameter is not None:
            if name in taken:
                raise self._invalid(f": argument {name!r} is given twice, by position and by name")
            return parameter.annotation
        if self._var_keyword is not None:
            return self._var_keyword.annotation
        if any(name == p.name for p in self._slots):
            raise self._invalid(f": argument {name!r} must be given by position, not by name")
        names = ", ".join([p.name for p in self._slots] + [p.name for p in self._keyword_only])
        raise self._invalid(f": unknown argument {_quote(name)}; it takes {names or 'no arguments'}")

    def _is_named(self, name: str, named: Mapping[str, Any]) -> bool:
        # With **kwargs there may be an entry of the same name as a positional-only parameter.
        return name in named and name in self._by_name

    def _convert(
        self, codec: Codec, name: Any, path: str, annotation: Any, value: Any, live: LiveValues | None
    ) -> Any:
        if annotation is Any and type(value) is not memoryview:  # a view is for who asked for one
            return value
        try:
            return codec.convert(value, annotation, live)
        except DecodeError as error:
            raise self._invalid(f": argument {_quote(name)}{path}{_explain(error, ': ')}") from None
        except ConfigurationError as error:
            raise self._invalid(f" cannot be called with the codec {codec.name!r}: {error}") from None

    def _too_many(self, got: int) -> str:
        if not self._slots:
            return f" takes no {'positional ' if self._keyword_only else ''}arguments, got {got}"
        least, most = self._required_slots, len(self._slots)
        count = str(most) if least == most else f"{least} to {most}"
        names = ", ".join(p.name if p.required else f"{p.name}=..." for p in self._slots)
        noun = "positional argument" if self._keyword_only else "argument"
        return f" takes {count} {noun}{'' if most == 1 else 's'} ({names}), got {got}"

    def _invalid(self, text: str) -> InvalidArgument:
        error = InvalidArgument(self._method + text)
        error.may_have_executed = False
        return error


def _explain(error: DecodeError, separator: str = "") -> str:
    """Return the path within the value, a separator, and what is wrong there, from a decoder's message."""
    message = str(error)
    path = ""
    match = _PATH.search(message)
    if match is not None:
        message = message[: match.start()]
        path = match["path"] + (" key" if match["key"] else "")
    if message.startswith(("Expected ", "Invalid ", "Object ")):
        message = message[0].lower() + message[1:]
    return _shorten(path) + separator + _shorten(message)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


def _quote(name: Any) -> str:
    return _shorten(repr(name))
