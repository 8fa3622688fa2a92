"""Templates of tags."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.registration._model import Options
from duplex_services.registration._rules._desired import desired
from duplex_services.registration._rules._functions import TemplateError, WantedError
from duplex_services.registration._rules._templates import Template
from tests.services.registration.made import HOST, container, findings, one, services

DATA: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "Name": "/web.1",
    "Config": {
        "Hostname": "h-1",
        "Env": ["A=1", "B=two", "C=x,y"],
        "Labels": {"com.example/team": "red", "b": "2"},
        "Tty": False,
    },
    "Ports": [],
    "Nothing": None,
    "Ratio": 0.5,
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain,text", "plain,text"),
        ("", ""),
        ("{{.ID}}", "0123456789abcdef"),
        ("{{ .Config.Hostname }},x", "h-1,x"),
        ("a {{- .Config.Hostname -}} b", "ah-1b"),
        ("{{/* nothing */}}a", "a"),
        # Registrator's functions
        ("{{strSlice .ID 12}}", "cdef"),
        ("{{strSlice .ID 0 4}}", "0123"),
        ("{{strSlice .ID 3 99}}", "0123456789abcdef"),
        ("{{sIndex 1 .Config.Env}}", "B=two"),
        ("{{sIndex -1 .Config.Env}}", "C=x,y"),
        ("{{sIndex 99 .Config.Env}}", "C=x,y"),
        ("{{sIndex -99 .Config.Env}}", "A=1"),
        ('{{mIndex "com.example/team" .Config.Labels}}', "red"),
        ('{{mIndex "none" .Config.Labels}}', ""),
        ("{{toUpper .Config.Hostname}}", "H-1"),
        ('{{"ABC" | toLower}}', "abc"),
        ('{{replace 1 "o" "0" "foo"}}', "f0o"),
        ('{{replace -1 "o" "0" "foo"}}', "f00"),
        ('{{join "+" .Config.Env}}', "A=1+B=two+C=x,y"),
        ('{{split "-" .Config.Hostname}}', "[h 1]"),
        ('{{split "" "ab"}}', "[a b]"),
        ('{{splitIndex 1 "-" .Config.Hostname}}', "1"),
        ('{{matchFirstElement "^B=" .Config.Env}}', "B=two"),
        ('{{matchFirstElement "^Z=" .Config.Env}}', ""),
        ('{{matchAllElements "^[AB]=" .Config.Env | join ";"}}', "A=1;B=two"),
        ('{{jsonParse (httpGet "http://x/") "a::b::1"}}', "two"),
        ('{{jsonParse (httpGet "http://x/") "a::c"}}', ""),
        ('{{httpGet "http://x/" | print}}', '{"a": {"b": [1, "two"]}}'),
        ('{{ splitIndex 1 "=" (matchFirstElement "^B=" .Config.Env) | toUpper }}', "TWO"),
        # What Go has by itself
        ("{{index .Config.Env 0}}", "A=1"),
        ('{{index .Config.Labels "b"}}', "2"),
        ("{{len .Config.Env}}", "3"),
        ("{{.Config.Labels}}", "map[b:2 com.example/team:red]"),
        ("{{.Config.Tty}} {{true}} {{nil}}", "false true <no value>"),
        ("{{.Ratio}}", "0.5"),
        ("{{.Nowhere}}{{.Nowhere.Else}}", "<no value><no value>"),
        ('{{printf "%s-%d-%q-%v%%" .Config.Hostname 3 "a" .Config.Env}}', 'h-1-3-"a"-[A=1 B=two C=x,y]%'),
        ('{{if eq .Config.Hostname "h-1"}}yes{{else}}no{{end}}', "yes"),
        ('{{if and .Config.Tty true}}yes{{else}}no{{end}}', "no"),
        ('{{if or .Config.Tty .ID}}yes{{end}}', "yes"),
        ("{{if not .Ports}}none{{end}}", "none"),
        ("{{if ne 1 2}}{{if lt 1 2}}{{if le 2 2}}{{if gt 2 1}}{{if ge 2 2}}all{{end}}{{end}}{{end}}{{end}}{{end}}", "all"),
        ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=two><C=x,y>"),
        ("{{range .Config.Labels}}{{.}}{{end}}", "2red"),
        ("{{range .Ports}}x{{else}}none{{end}}", "none"),
        ("{{with .Config}}{{.Hostname}} of {{$.Name}}{{end}}", "h-1 of /web.1"),
        ("{{with .Nothing}}x{{else}}y{{end}}", "y"),
        ("{{(index .Config.Env 0) | toLower}}", "a=1"),
        ("{{$.Config.Hostname}}{{(.Config).Hostname}}", "h-1h-1"),
        ("{{`a\"b`}}{{\"c\\\"d\"}}", 'a"bc"d'),
        ('{{print "{" 1 "}"}}', "{1}"),
    ],
)  # fmt: skip
def test_what_a_template_makes(text: str, result: str) -> None:
    fetched = {"http://x/": b'{"a": {"b": [1, "two"]}}'}
    assert Template(text).render(DATA, fetched) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{", "without its end"),
        ("{{}}", "says nothing"),
        ("{{end}}", "without a beginning"),
        ("{{if true}}", "'if' has no end"),
        ("{{if true}}{{else if false}}{{end}}", "nothing may follow 'else'"),
        ("{{if true}}{{else}}{{else}}{{end}}", "'if' has no end"),
        ("{{&}}", "not understood"),
        ("{{nothing .ID}}", "no function 'nothing'"),
        ("{{.Name .ID}}", "one value"),
        ("{{.ID | .Name}}", "one value"),
        ("{{.ID )}}", "not expected"),
        ("{{(.ID}}", "not closed"),
        ("{{index .Config.Env 9}}", "out of range"),
        ("{{.ID.Name}}", "has no 'Name'"),
        ("{{sIndex 0 .Ports}}", "empty list"),
        ('{{matchFirstElement "(" .Config.Env}}', "no regular expression"),
        ('{{jsonParse "{" "a"}}', "no JSON"),
        ("{{toUpper 3}}", "cannot be applied"),
        ("{{toUpper}}", "cannot be applied"),
        ("{{printf `%s`}}", "too few"),
        ("{{range .ID}}{{end}}", "cannot go over"),
        ("{{httpGet 3}}", "one address"),
        (r'{{"\x"}}', "is no text"),
        ("{{join}}", "cannot be applied"),
    ],
)
def test_template_that_makes_no_sense(text: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        Template(text).render(DATA)


def test_what_was_not_fetched_is_asked_for() -> None:
    with pytest.raises(WantedError, match="http://x/"):
        Template('{{httpGet "http://x/"}}').render(DATA)


@given(st.text('{}.|() "`$abIDif10-', max_size=30))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        assert isinstance(Template(text).render(DATA), str)
    except (TemplateError, WantedError):
        pass  # it says what is wrong


def test_tags_of_a_container() -> None:
    made = container(inspected=DATA, labels={"SERVICE_TAGS": "own"})
    assert one(made, tags="{{.Config.Hostname}},fixed").tags == ("own", "h-1", "fixed")
    assert services(made, tags="{{.ID.X}}") == []
    assert [finding.why for finding in findings(made, tags="{{.ID.X}}")] == [
        "--tags: '0123456789abcdef' has no 'X'"
    ]


def test_container_whose_template_waits_for_an_address_stays_as_it_was() -> None:
    made = container(inspected=DATA)
    options = Options(tags='{{httpGet "http://x/"}}')
    first = desired([made], options, HOST, now=0.0)
    assert first.services == ()
    assert first.wanted == ("http://x/",)
    second = desired([made], options, HOST, now=0.0, fetched={"http://x/": b"blue"})
    assert second.services[0].tags == ("blue",)
    assert desired([made], options, HOST, now=0.0, before=second.services).services == second.services


def test_errors_inside_a_pipeline() -> None:
    assert Template("{{toUpper (toLower `A`)}}").render(DATA) == "A"
    with pytest.raises(TemplateError, match="cannot be applied"):
        Template("{{toUpper toLower}}").render(DATA)
