"""Services: named groups of functions that may be called from elsewhere. Only what is decorated can be."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar, final, overload

from duplex._config import Overflow
from duplex._errors import ConfigurationError
from duplex._names import service_name_of
from duplex.engine.serving import ServingMiddleware, checked_middleware
from duplex.service._annotations import Scope, UnresolvedNameError, capture_scope, hints_of, in_class_body
from duplex.service._decorated import shown_as_decorator
from duplex.service._method import MethodSpec, RpcOptions, checked_requires
from duplex.service._signature import callable_of, flavor_of, inspect_function

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes of ``service.method`` in UTF-8, so that it fits everywhere a name goes.
MAX_NAME_BYTES: Final = 255
#: Services of this name and below it belong to Duplex.
RESERVED: Final = "duplex"

_ATTRIBUTE: Final = "__duplex_rpc__"
_DESCRIPTORS: Final = (staticmethod, classmethod)
_WORD: Final = r"[\w-]+"
_SERVICE_NAME: Final = re.compile(rf"{_WORD}(\.{_WORD})*")
_METHOD_NAME: Final = re.compile(_WORD)


@shown_as_decorator
def rpc(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    inline: bool = False,
    idempotent: bool = False,
    deprecated: str | None = None,
    resumable: bool = False,
    overflow: Overflow | None = None,
    middleware: Iterable[ServingMiddleware] = (),
    requires: str | Iterable[str] = (),
) -> Any:
    """Mark a function of a module, or a method of a class, as callable from elsewhere.

    It stays the same function; for what type checkers see of it, see :meth:`Peer.service`. ``duplex serve`` and :meth:`Service.from_module` find it in its module,
    :meth:`Service.from_object` in an instance of its class.

    Args:
        function: what to mark; ``@rpc`` and ``@rpc(...)`` both work.
        name: the name of the method, if it is to differ from the function's.
        inline: run a plain ``def`` on the event loop rather than in a worker thread.
        idempotent: calling twice is as good as calling once, so a call whose outcome is unknown may be repeated.
        deprecated: what to use instead, told to those who ask for a description.
        resumable: the stream of results can go on after a lost link: see :class:`Tracked`.
        overflow: what this side does when the window of one of the call's streams is full, instead of making
            the sender wait, for telemetry: ``"drop_oldest"``, ``"drop_newest"`` or ``"error"``. See
            :meth:`ServiceProxy.with_options`.
        middleware: what runs around the method, the outermost first: see :class:`ServingMiddleware`.
        requires: the name of a permission that callers need, or several. Who has it is decided by ``authorize`` of
            :func:`open_peer`; without that, nobody has.

    Raises:
        ConfigurationError: the function cannot be served; the message says what to change.
    """
    layers = checked_middleware(middleware, "rpc()")
    permissions = checked_requires(requires, "rpc()")

    def decorate(function: Any) -> Any:
        descriptor = type(function) in _DESCRIPTORS
        target = function.__func__ if descriptor else function
        options = RpcOptions(name, inline, idempotent, deprecated, resumable, overflow, layers, permissions)
        label = _name_of(target, options)
        callable_of(target, label)
        flavor_of(target, label, inline=inline)
        scope = capture_scope(2)
        # What does not exist yet may exist when the service is used, and so may what its fields are made of.
        try:
            options = replace(options, hints=hints_of(target, label, scope))
            if not descriptor and not in_class_body(2):
                inspect_function(function, label, options)
        except UnresolvedNameError:
            if options.hints is None:
                options = replace(options, scope=scope)
        try:
            setattr(target, _ATTRIBUTE, options)
        except AttributeError:
            raise ConfigurationError(
                f"{label}: a {type(target).__name__} cannot be marked; wrap it in a function of your own"
            ) from None
        return function

    # Both ways must be equally deep, for capture_scope.
    return decorate(function) if function is not None else lambda function: decorate(function)


@final
class Service:
    """A named, versioned group of methods.

    Args:
        name: words of letters, digits, ``_`` and ``-``, with dots between them.
        version: the version of what the methods mean, for humans and for reflection.
        description: what it is for, told by reflection.
        builtin: it is one of Duplex's own, which alone may use the reserved name.
        middleware: what runs around every method, around those that a method has of its own; the outermost first. See
            :class:`ServingMiddleware`.

    Raises:
        ConfigurationError: the name is not well formed, or reserved.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "0.0.0",
        description: str | None = None,
        builtin: bool = False,
        middleware: Iterable[ServingMiddleware] = (),
    ) -> None:
        if not _SERVICE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"a service cannot be called {name!r}: use letters, digits, '_' and '-', with dots between words"
            )
        if name.partition(".")[0] == RESERVED and not builtin:
            raise ConfigurationError(f"a service cannot be called {name!r}: {RESERVED!r} is reserved")
        self._name = name
        self._version = version
        self._description = description
        self._middleware = checked_middleware(middleware, f"service {name!r}")
        self._methods: dict[str, MethodSpec] = {}
        self._view: Mapping[str, MethodSpec] = types.MappingProxyType(self._methods)
        # Methods with annotations that name something not defined yet.
        self._pending: dict[str, tuple[Callable[..., Any], RpcOptions]] = {}

    def __repr__(self) -> str:
        return f"<Service {self._name} {self._version}: {', '.join(self._names()) or 'no methods'}>"

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def version(self) -> str:
        """The version."""
        return self._version

    @property
    def description(self) -> str | None:
        """The description."""
        return self._description

    @property
    def methods(self) -> Mapping[str, MethodSpec]:
        """The methods by name, read-only.

        Raises:
            ConfigurationError: an annotation names something that still does not exist.
        """
        if self._pending:
            self._resolve_pending()
        return self._view

    @overload
    def rpc(self, function: F, /) -> F: ...

    @overload
    def rpc(
        self,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        idempotent: bool = False,
        deprecated: str | None = None,
        resumable: bool = False,
        overflow: Overflow | None = None,
        middleware: Iterable[ServingMiddleware] = (),
        requires: str | Iterable[str] = (),
    ) -> Callable[[F], F]: ...

    def rpc(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        idempotent: bool = False,
        deprecated: str | None = None,
        resumable: bool = False,
        overflow: Overflow | None = None,
        middleware: Iterable[ServingMiddleware] = (),
        requires: str | Iterable[str] = (),
    ) -> Any:
        """Add a function to the service; the options are those of :func:`rpc`. Returns the same function."""
        layers = checked_middleware(middleware, f"service {self._name!r}")
        permissions = checked_requires(requires, f"service {self._name!r}")

        def decorate(function: Any) -> Any:
            scope = capture_scope(2)
            options = RpcOptions(
                name, inline, idempotent, deprecated, resumable, overflow, layers, permissions, scope=scope
            )
            self._add(function, options)
            return function

        return decorate(function) if function is not None else lambda function: decorate(function)

    def add(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        inline: bool | None = None,
        idempotent: bool | None = None,
        deprecated: str | None = None,
        resumable: bool | None = None,
        overflow: Overflow | None = None,
        middleware: Iterable[ServingMiddleware] | None = None,
        requires: str | Iterable[str] | None = None,
    ) -> None:
        """Add a function that was defined elsewhere: a bound method, a partial, somebody else's function.

        The options are those of :func:`rpc`; where one is not given, the function's own decoration counts.

        Raises:
            ConfigurationError: it cannot be served, or the name is taken.
        """
        here = capture_scope()
        # The function was not necessarily defined here, so what is called alike in its own module comes first.
        scope = Scope(class_names={**here.class_names, **here.function_names})
        own = options_of(function) or RpcOptions(scope=scope)
        options = replace(
            own,
            name=own.name if name is None else name,
            inline=own.inline if inline is None else inline,
            idempotent=own.idempotent if idempotent is None else idempotent,
            deprecated=own.deprecated if deprecated is None else deprecated,
            resumable=own.resumable if resumable is None else resumable,
            overflow=own.overflow if overflow is None else overflow,
            middleware=own.middleware
            if middleware is None
            else checked_middleware(middleware, f"service {self._name!r}"),
            requires=own.requires
            if requires is None
            else checked_requires(requires, f"service {self._name!r}"),
        )
        self._add(function, options)

    @classmethod
    def from_object(
        cls,
        instance: object,
        *,
        name: str | None = None,
        version: str = "0.0.0",
        description: str | None = None,
        middleware: Iterable[ServingMiddleware] = (),
    ) -> Service:
        """Make a service of the methods of an object that are decorated with :func:`rpc`, inherited ones too.

        Args:
            instance: an instance of a class with decorated methods.
            name: the name of the service; without it, the class's attribute ``service_name``, or else its own
                name less a final ``Service``: ``UserStore`` gives ``user_store``.
            version: see :class:`Service`.
            description: see :class:`Service`; without it, the docstring of the class.
            middleware: see :class:`Service`.

        Raises:
            ConfigurationError: nothing is decorated, or a class overrides a decorated method without
                decorating it, which would otherwise silently close or open it to callers.
        """
        owner = type(instance)
        if isinstance(instance, type):
            raise ConfigurationError(f"{instance.__name__} is a class; expose an instance of it")
        if description is None:
            description = inspect.cleandoc(owner.__doc__) if owner.__doc__ else None
        service = cls(
            name or service_name_of(owner), version=version, description=description, middleware=middleware
        )
        class_names = {base.__name__: base for base in owner.__mro__}
        for base in reversed(owner.__mro__):
            class_names.update(vars(base))
        for attribute, options in _decorated_methods(owner):
            scope = Scope(options.scope.function_names, {**class_names, **options.scope.class_names})
            service._add(getattr(instance, attribute), replace(options, scope=scope))
        if not service._names():
            raise ConfigurationError(f"{owner.__name__} has no methods that are decorated with @duplex.rpc")
        return service

    @classmethod
    def from_module(
        cls,
        module: types.ModuleType,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        middleware: Iterable[ServingMiddleware] = (),
    ) -> Service:
        """Make a service of the functions in a module, its own and imported ones, that :func:`rpc` decorates.

        Args:
            module: the module.
            name: the name of the service; without it, the last word of the module's name.
            version: see :class:`Service`; without it, the module's ``__version__`` if it has one.
            description: see :class:`Service`; without it, the docstring of the module.
            middleware: see :class:`Service`.

        Raises:
            ConfigurationError: nothing is decorated.
        """
        if version is None:
            version = str(getattr(module, "__version__", "0.0.0"))
        if description is None:
            description = inspect.cleandoc(module.__doc__) if module.__doc__ else None
        service = cls(
            name or _module_name(module), version=version, description=description, middleware=middleware
        )
        for function, options in _decorated_functions(module):
            service._add(function, options)
        if not service._names():
            raise ConfigurationError(
                f"{module.__name__} has no functions that are decorated with @duplex.rpc"
            )
        return service

    def _names(self) -> list[str]:
        return [*self._methods, *self._pending]

    def _add(self, function: Any, options: RpcOptions) -> None:
        name = _name_of(function, options)
        method = f"{self._name}.{name}"
        if name in self._methods or name in self._pending:
            raise ConfigurationError(
                f"{method} exists already; give one of the two another name: rpc(name=...)"
            )
        if len(method.encode()) > MAX_NAME_BYTES:
            raise ConfigurationError(f"{method} is longer than {MAX_NAME_BYTES} bytes of UTF-8")
        try:
            self._methods[name] = self._inspect(function, method, options)
        except UnresolvedNameError:
            self._pending[name] = function, options

    def _inspect(self, function: Any, method: str, options: RpcOptions) -> MethodSpec:
        return inspect_function(function, method, options).behind(self._middleware)

    def _resolve_pending(self) -> None:
        for name, (function, options) in list(self._pending.items()):
            try:
                self._methods[name] = self._inspect(function, f"{self._name}.{name}", options)
            except UnresolvedNameError as error:
                raise error.as_configuration_error() from None
            del self._pending[name]


def services_of(module: types.ModuleType) -> list[Service]:
    """Return what a module serves: its :class:`Service` objects in their order, then, if it has functions
    decorated with :func:`rpc`, a service of those.

    Raises:
        ConfigurationError: two of them have the same name.
    """
    services: list[Service] = []
    for value in vars(module).values():
        if isinstance(value, Service) and value not in services:
            services.append(value)
    if any(_decorated_functions(module)):
        services.append(Service.from_module(module))
    names = [service.name for service in services]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{module.__name__} has two services that are called {name!r}")
    return services


def options_of(function: Any) -> RpcOptions | None:
    """Return what :func:`rpc` noted on a function, or ``None`` if it is not decorated."""
    # A staticmethod or classmethod does not pass attributes on that its function got later.
    options = getattr(getattr(function, "__func__", function), _ATTRIBUTE, None)
    return options if isinstance(options, RpcOptions) else None


def _name_of(function: Any, options: RpcOptions) -> str:
    """Return the name that a function is to have as a method."""
    if options.name is not None:
        if not _METHOD_NAME.fullmatch(options.name):
            raise ConfigurationError(
                f"a method cannot be called {options.name!r}: use letters, digits, '_' and '-'"
            )
        return options.name
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigurationError(f"{function!r} has no name of its own; give it one with name=...")
    if name.startswith("_"):
        raise ConfigurationError(
            f"{name!r} begins with an underscore, so it is private; give it a public name with name=..."
        )
    return name


def _decorated_methods(owner: type) -> Iterator[tuple[str, RpcOptions]]:
    """Yield each attribute of a class that holds a decorated method, base classes first."""
    attributes = dict.fromkeys(name for base in reversed(owner.__mro__) for name in vars(base))
    for attribute in attributes:
        holders = [base for base in owner.__mro__ if attribute in vars(base)]
        decorated = [base for base in holders if options_of(vars(base)[attribute]) is not None]
        if not decorated:
            continue
        value = vars(holders[0])[attribute]
        options = options_of(value)
        if options is not None:
            yield attribute, options
        elif value is not None:  # None takes a method away, as it does for __hash__
            raise ConfigurationError(
                f"{holders[0].__name__}.{attribute} overrides the decorated {decorated[0].__name__}.{attribute}; "
                f"decorate it with @duplex.rpc too, or set it to None to leave it out"
            )


def _decorated_functions(module: types.ModuleType) -> Iterator[tuple[Any, RpcOptions]]:
    """Yield each decorated function of a module once, however many names it has there."""
    seen: list[Any] = []
    for value in vars(module).values():
        options = None if isinstance(value, type) else options_of(value)
        if options is not None and not any(value is other for other in seen):
            seen.append(value)
            yield value, options


def _module_name(module: types.ModuleType) -> str:
    if module.__name__ == "__main__" and module.__spec__ is None and getattr(module, "__file__", None):
        return re.sub(r"\.pyw?$", "", re.split(r"[/\\]", str(module.__file__))[-1])
    return module.__name__.rpartition(".")[2]
