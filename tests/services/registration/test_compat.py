"""``--compat registrator``: what Registrator makes of containers, row by row of what it did, faults included."""

from __future__ import annotations

from typing import Any

import pytest

from duplex_services.registration._model import Binding, Host, Network, Port
from duplex_services.registration._rules._compat import inside_address
from duplex_services.registration._rules._naming import compat_image_name
from tests.services.registration.made import HOST, container, one, services, why


def listed(*containers: Any, host: Host = HOST, **options: Any) -> list[tuple[str, str, str]]:
    return [
        (service.name, service.id, service.address)
        for service in services(*containers, host=host, compat=True, **options)
    ]


# -- which ports -----------------------------------------------------------------------------------------


def test_published_port_is_listed_at_the_host() -> None:
    assert listed(container()) == [("web", "h1:web.1:80", "192.0.2.1:8000")]


def test_exposed_ports_count_as_published_at_the_host_unless_docker_says_otherwise() -> None:
    # In the host's network Docker tells no bindings.
    made = container(mode="host", exposed=(Port(80, "tcp"), Port(443, "tcp")), published={}, networks=())
    assert listed(made) == [
        ("web-80", "h1:web.1:80", "192.0.2.1:80"),
        ("web-443", "h1:web.1:443", "192.0.2.1:443"),
    ]


def test_exposed_port_that_is_not_published_is_skipped() -> None:
    assert listed(container(ports=["8000:80", "443"])) == [("web", "h1:web.1:80", "192.0.2.1:8000")]
    assert why(container(ports=["443"]), compat=True) == ["port 443 not published on host"]
    assert listed(container(ports=["443"]), internal=True) == [("web", "h1:web.1:443", "172.17.0.2:443")]


def test_only_the_first_binding_of_a_port_is_used() -> None:
    made = container(published={Port(80, "tcp"): (Binding("0.0.0.0", 32774), Binding("::", 32773))})
    assert listed(made) == [("web", "h1:web.1:80", "192.0.2.1:32774")]


def test_container_without_ports_is_ignored() -> None:
    assert why(container(ports=[]), compat=True) == ["it exposes no port"]


def test_group_counts_ports_that_labels_drop_later() -> None:
    made = container(ports=["8000:80", "8443:443"], labels={"SERVICE_443_IGNORE": "x"})
    assert listed(made) == [("web-80", "h1:web.1:80", "192.0.2.1:8000")]
    assert one(made).name == "web"


def test_tcp_and_udp_of_one_number_are_two() -> None:
    assert listed(container(ports=["53:53", "53:53/udp"])) == [
        ("web-53", "h1:web.1:53", "192.0.2.1:53"),
        ("web-53", "h1:web.1:53:udp", "192.0.2.1:53"),
    ]


def test_unpublished_ports_do_not_make_a_group() -> None:
    assert listed(container(ports=["8000:80", "443"]))[0][0] == "web"


# -- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options", "host", "address"),
    [
        ({"ports": ["10.1.1.1:8000:80"]}, {}, HOST, "10.1.1.1"),
        ({"ports": ["8000:80"]}, {}, HOST, "192.0.2.1"),
        ({"ports": ["0.0.0.0:8000:80"]}, {}, HOST, "192.0.2.1"),
        ({}, {}, Host("h1"), "0.0.0.0"),
        ({}, {"host_address": "203.0.113.7"}, HOST, "203.0.113.7"),
        ({"ports": ["10.1.1.1:8000:80"]}, {"host_address": "203.0.113.7"}, HOST, "203.0.113.7"),
        ({}, {"host_address": "203.0.113.7", "internal": True}, HOST, "172.17.0.2"),
        ({"mode": "front", "networks": (Network("front", "10.5.0.2"),)}, {}, HOST, "10.5.0.2"),
        ({"mode": "front", "networks": ()}, {}, HOST, ""),
        ({"networks": (Network("a", "10.5.0.2"), Network("b", "10.6.0.2"))}, {"internal": True}, HOST, "10.5.0.2"),
        ({"networks": (Network("a", "10.5.0.2"), Network("bridge", "172.17.0.9"))}, {"internal": True}, HOST, "172.17.0.9"),
        ({"labels": {"ip": "10.9.9.9/24"}}, {"address_label": "ip"}, HOST, "10.9.9.9"),
        ({"labels": {"ip": "a/b/24"}}, {"address_label": "ip"}, HOST, "a/b"),
        ({"labels": {"ip": "10.9.9.9"}}, {"address_label": "ip"}, HOST, "10.9.9.9"),
        ({"labels": {"ip": "10.9.9.9/8"}}, {"address_label": "ip", "internal": True}, HOST, "10.9.9.9"),
        ({}, {"address_label": "ip"}, HOST, "192.0.2.1"),
    ],
)  # fmt: skip
def test_address(given: dict[str, Any], options: dict[str, Any], host: Host, address: str) -> None:
    assert one(container(**given), host=host, compat=True, **options).host == address


def test_address_in_another_containers_network_replaces_all_others() -> None:
    pod = container(1, ports=[], networks=(Network("bridge", "172.17.0.77"),))
    made = container(
        2,
        mode=f"container:{pod.id}",
        exposed=(Port(80, "tcp"),),
        published={},
        networks=(),
        labels={"ip": "1.2.3.4"},
    )
    assert one(made, compat=True, address_label="ip").address == "1.2.3.4:80"
    assert [service.address for service in services(pod, made, compat=True)] == ["172.17.0.77:80"]


def test_container_without_networks_has_no_address() -> None:
    assert inside_address(container(networks=())) == ""


def test_host_without_a_name_gives_its_address_to_ids() -> None:
    assert one(container(ports=["10.1.1.1:8000:80"]), host=Host(""), compat=True).id == "10.1.1.1:web.1:80"


# -- metadata --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "labels", "name", "attributes"),
    [
        (["SERVICE_NAME=a"], {}, "a", {}),
        (["SERVICE_NAME=a"], {"SERVICE_NAME": "b"}, "b", {}),
        (["SERVICE_80_NAME=a", "SERVICE_NAME=b"], {}, "a", {}),
        (["SERVICE_NAME=b", "SERVICE_80_NAME=a"], {}, "a", {}),
        (["SERVICE_80_NAME=a"], {"SERVICE_NAME": "b"}, "a", {}),
        (["SERVICE_80_NAME=a"], {"SERVICE_80_NAME": "b"}, "b", {}),
        (["SERVICE_NAME="], {}, "web", {}),
        (["service_name=a", "XSERVICE_NAME=a"], {}, "web", {}),
        (["SERVICE_NAME"], {}, "web", {}),
        (["SERVICE_Region=EU West"], {}, "web", {"region": "EU West"}),
        (["SERVICE_443_SNI=x", "SERVICE_80_SNI=y"], {}, "web", {"sni": "y"}),
        (["SERVICE_443_SNI=x"], {}, "web", {}),
        (["SERVICE_080_SNI=x"], {}, "web", {}),
        (["SERVICE_80=x"], {}, "web", {"80": "x"}),
        (["SERVICE_A=b=c"], {}, "web", {"a": "b=c"}),
        (["SERVICE_CHECK_HTTP=/x"], {}, "web", {"check_http": "/x"}),
        (["SERVICE_IGNORE="], {}, "web", {"ignore": ""}),
    ],
)
def test_metadata(
    environment: list[str], labels: dict[str, str], name: str, attributes: dict[str, str]
) -> None:
    service = one(container(environment=tuple(environment), labels=labels), compat=True)
    assert (service.name, service.attributes) == (name, attributes)


@pytest.mark.parametrize("value", ["true", "false", "0", "x"])
def test_ignore_is_any_text(value: str) -> None:
    assert why(container(labels={"SERVICE_IGNORE": value}), compat=True) == ["SERVICE_IGNORE is set"]


def test_explicit_lists_what_has_a_name() -> None:
    assert why(container(), compat=True, explicit=True) == ["it has no SERVICE_NAME, and --explicit is given"]
    assert why(container(labels={"SERVICE_NAME": ""}), compat=True, explicit=True)
    assert listed(container(labels={"SERVICE_80_NAME": "a"}), explicit=True)[0][0] == "a"


# -- names and ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("gliderlabs/foobar:v1", "foobar"),
        ("redis", "redis"),
        ("registry.example:5000/a/web", "web"),
        ("web@sha256:0123", "web@sha256"),
        ("sha256:0123", "sha256"),
    ],
)
def test_name_of_an_image(image: str, name: str) -> None:
    assert compat_image_name(image) == name


def test_number_is_appended_in_a_group_unless_the_name_is_of_the_port() -> None:
    made = container(ports=["8000:80", "8443:443"], labels={"SERVICE_NAME": "a", "SERVICE_443_NAME": "b"})
    assert [name for name, _, _ in listed(made)] == ["a-80", "b"]
    # Also an empty name of the port counts for that.
    made = container(ports=["8000:80", "8443:443"], labels={"SERVICE_443_NAME": ""})
    assert [name for name, _, _ in listed(made)] == ["web-80", "web"]


def test_id_is_replaced_entirely() -> None:
    made = container(ports=["53:53/udp"], labels={"SERVICE_ID": "mine"})
    assert one(made, compat=True).id == "mine"
    made = container(labels={"SERVICE_ID": "mine", "SERVICE_80_ID": "its"})
    assert one(made, compat=True).id == "its"


# -- tags ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "option", "ports", "tags"),
    [
        ("master,backups", "", ["8000:80"], ("backups", "master")),
        ("a,b", "c,d", ["8000:80"], ("b", "a", "d", "c")),
        ("a,b", "c", ["53:53/udp"], ("b", "a", "c", "udp")),
        ("a,a", "a", ["8000:80"], ("a", "a", "a")),
        ("", "", ["8000:80"], ()),
    ],
)
def test_tags_come_in_reverse(said: str, option: str, ports: list[str], tags: tuple[str, ...]) -> None:
    made = container(ports=ports, labels={"SERVICE_TAGS": said})
    assert one(made, compat=True, tags=option).tags == tags


def test_ttl_and_origin() -> None:
    service = one(container(), compat=True, ttl=30.0)
    assert service.ttl == 30.0
    assert (service.container_name, service.container_hostname, service.inside) == ("web.1", "host1", 80)
    assert service.container == container().id


# -- the examples of Registrator's documentation -----------------------------------------------------------


@pytest.mark.parametrize("source", ["environment", "labels"])
def test_examples_of_the_documentation(source: str) -> None:
    def said(**values: str) -> dict[str, Any]:
        if source == "labels":
            return {"labels": values}
        return {"environment": tuple(f"{key}={value}" for key, value in values.items())}

    redis = one(container(image="dockerfile/redis", name="redis.0", ports=["10000:6379"]), compat=True)
    assert (redis.name, redis.id, redis.port, redis.tags) == ("redis", "h1:redis.0:6379", 10000, ())

    redis = one(
        container(
            image="dockerfile/redis",
            name="redis.0",
            ports=["10000:6379"],
            **said(SERVICE_NAME="db", SERVICE_TAGS="master,backups", SERVICE_REGION="us2"),
        ),
        compat=True,
    )
    assert (redis.name, redis.tags, redis.attributes) == ("db", ("backups", "master"), {"region": "us2"})

    nginx: dict[str, Any] = {"image": "progrium/nginx", "name": "nginx.0", "ports": ["4443:443", "8000:80"]}
    assert [(found.name, found.id, found.port) for found in services(container(**nginx), compat=True)] == [
        ("nginx-80", "h1:nginx.0:80", 8000),
        ("nginx-443", "h1:nginx.0:443", 4443),
    ]
    plain, secure = services(
        container(
            **nginx,
            **said(
                SERVICE_443_NAME="https",
                SERVICE_443_ID="https.12345",
                SERVICE_443_SNI="enabled",
                SERVICE_80_NAME="http",
                SERVICE_TAGS="www",
            ),
        ),
        compat=True,
    )
    assert (secure.name, secure.id, secure.attributes, secure.tags) == (
        "https",
        "https.12345",
        {"sni": "enabled"},
        ("www",),
    )
    assert (plain.name, plain.id, plain.attributes, plain.tags) == ("http", "h1:nginx.0:80", {}, ("www",))


def test_health_and_pauses_are_not_looked_at() -> None:
    for given in (
        {"health": "starting"},
        {"health": "unhealthy"},
        {"status": "paused"},
        {"is_stopping": True},
    ):
        assert one(container(**given), compat=True).state == "passing"
