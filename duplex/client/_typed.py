"""Typed proxies: a Protocol or the service's own class says what results are, for mypy and for decoding."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import Any, Final, Unpack, final

from duplex._errors import ConfigurationError
from duplex._names import service_name_of
from duplex.client._options import Options
from duplex.client._proxy import Declared, MethodProxy, Route, ServiceProxy
from duplex.engine.calling import CallOptions, Streaming, Unary
from duplex.engine.channels import Channel

_ITERATORS: Final = (AsyncGenerator, AsyncIterator, AsyncIterable, Generator, Iterator, Iterable)


def _method_types(cls: type) -> dict[str, tuple[str, Declared]]:
    """Map the names of a class's methods to those of the service, and to what the class says of them."""
    found: dict[str, tuple[str, Declared]] = {}
    try:
        attributes = typing.get_type_hints(cls)
    except NameError as error:
        raise ConfigurationError(f"{cls.__name__}: its annotations name something unknown: {error}") from None
    for name, annotation in attributes.items():
        if typing.get_origin(annotation) in (Unary, Streaming):
            single = typing.get_origin(annotation) is Unary
            found[name] = name, Declared(typing.get_args(annotation)[-1], single)
    for name, function in inspect.getmembers(cls, callable):
        if name.startswith("_") or inspect.isclass(function):
            continue
        options = getattr(function, "__duplex_rpc__", None)
        remote = getattr(options, "name", None) or name
        idempotent = getattr(options, "idempotent", False)
        try:
            hints = typing.get_type_hints(function)
        except NameError as error:
            raise ConfigurationError(
                f"{cls.__name__}.{name}: its annotations name something unknown: {error}"
            ) from None
        annotation = hints.pop("return", Any)
        channel = next(
            (hint for hint in hints.values() if (typing.get_origin(hint) or hint) is Channel), None
        )
        if channel is not None:
            # Its answers are what the handler sends.
            item_type = (typing.get_args(channel) or (Any,))[0]
            found[name] = remote, Declared(item_type, idempotent=idempotent)
        elif (typing.get_origin(annotation) or annotation) in _ITERATORS and not (
            inspect.iscoroutinefunction(function)
        ):
            item_type = (typing.get_args(annotation) or (Any,))[0]
            found[name] = remote, Declared(item_type, idempotent=idempotent)
        else:
            # What is declared without types may have a channel for its answers.
            found[name] = remote, Declared(annotation, annotation is not Any, idempotent)
    return found


@final
class _TypedProxy(ServiceProxy):
    """A proxy that knows its methods."""

    def __init__(
        self, route: Route, service: str, options: Options, methods: dict[str, tuple[str, Declared]]
    ) -> None:
        super().__init__(route, service, options)
        self._methods = methods

    def __getattr__(self, name: str) -> MethodProxy:
        if name.startswith("_"):
            raise AttributeError(f"{name!r} is not the name of a remote method")
        if name not in self._methods:
            raise AttributeError(
                f"{self._service!r} has no method {name!r}; its class declares {', '.join(sorted(self._methods))}"
            )
        remote, declared = self._methods[name]
        method = MethodProxy(self._route, self._service, remote, self._options, declared)
        self.__dict__[name] = method
        return method

    def with_options(self, **options: Unpack[CallOptions]) -> _TypedProxy:
        """See :meth:`ServiceProxy.with_options`."""
        changed = self._options.replace(**options)
        self._route.caller(self._service, changed)
        return _TypedProxy(self._route, self._service, changed, self._methods)


def typed_proxy(route: Route, cls: type, name: str | None, options: Options) -> Any:
    """Return a proxy for a service as a class declares it.

    Results are decoded and checked as the class's return annotations say.

    Raises:
        ConfigurationError: the class declares no methods, or an annotation cannot be resolved.
    """
    methods = _method_types(cls)
    if not methods:
        raise ConfigurationError(f"{cls.__name__} declares no methods")
    return _TypedProxy(route, name or service_name_of(cls), options, methods)
