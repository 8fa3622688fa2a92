"""No description has the default of what is declared to be secret, wherever it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

import duplex
from duplex.service import Service, describe_service
from tests.engine.helpers import linked


@dataclass
class Login:
    user: str = "anybody"
    password: duplex.Secret[str] = "hunter2"
    hint: duplex.Secret[str | None] = "hunter3"


@dataclass
class Several:
    logins: list[Login] = field(default_factory=lambda: [Login()])
    main: Login = field(default_factory=Login)
    retries: int = 3


LOGIN = Login(password="hunter2")
LOGINS = {"a": LOGIN}

service = Service("safe")


@service.rpc
async def connect(
    dsn: duplex.Secret[str] = "postgres://root:hunter2@db/x",
    token: Annotated[duplex.Secret[bytes], msgspec.Meta(max_length=100)] = b"hunter2",
    login: Login = LOGIN,
    logins: dict[str, Login] | None = LOGINS,
    several: Several | None = None,
    plain: int = 7,
) -> str:
    return f"{dsn} {token.decode()} {login.password} {plain}"


def test_no_description_has_a_secret() -> None:
    description = msgspec.to_builtins(describe_service(service))
    assert "hunter" not in str(description)
    (method,) = description["methods"]
    assert method["signature"] == (
        "connect(dsn: str = ..., token: bytes = ..., login: Login = ..., logins: dict[str, Login] | None = ..., "
        "several: Several | None = ..., plain: int = 7) -> str"
    )
    by_name = {parameter["name"]: parameter for parameter in method["parameters"]}
    assert all(not parameter["required"] for parameter in by_name.values())
    assert [name for name, parameter in by_name.items() if "default" in parameter] == ["plain"]
    assert by_name["dsn"]["schema"] == {"type": "string", "writeOnly": True}
    # What is no secret is told.
    assert method["$defs"]["Login"]["properties"]["user"]["default"] == "anybody"
    assert method["$defs"]["Several"]["properties"]["retries"]["default"] == 3


async def test_a_secret_is_an_ordinary_value_to_callers() -> None:
    async with linked(service) as pair:
        remote = pair.link.service("safe")
        assert await remote.connect() == "postgres://root:hunter2@db/x hunter2 hunter2 7"
        assert await remote.connect("d", b"t", {"password": "p"}, plain=1) == "d t p 1"
