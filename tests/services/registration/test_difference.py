"""What is to be done: after whatever has happened, the registry is what runs, and what is of others is as it was."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from duplex_services.registration._model import Container, Entry, Options, Service
from duplex_services.registration._rules._desired import desired
from duplex_services.registration._rules._difference import Drop, Put, difference
from tests.services.registration.made import HOST, container, services


def entry_of(service: Service) -> Entry:
    if service.name == "refused":
        raise ValueError("no such name here")
    return Entry(f"{service.name}/{service.id}", "me", service.address, service.state, service.note)


def listed(*made: Container) -> dict[str, Entry]:
    return {entry.key: entry for entry in map(entry_of, services(*made))}


def test_nothing_is_done_where_nothing_is_different() -> None:
    made = container(1), container(2)
    assert difference(services(*made), listed(*made), "me", entry_of).actions == ()


def test_what_goes_goes_first() -> None:
    one, two, three = container(1), container(2), container(3)
    found = difference(services(two, three), listed(one, two), "me", entry_of)
    drop, put = found.actions
    assert isinstance(drop, Drop)
    assert drop.entry.key == f"web/{one.short}-80"
    assert drop.why == "its container does not run any more"
    assert isinstance(put, Put)
    assert put.entry.key == f"web/{three.short}-80"
    assert put.before is None


def test_what_is_different_is_put_with_what_was_before() -> None:
    before = listed(container())
    (put,) = difference(services(container(status="paused")), before, "me", entry_of).actions
    assert isinstance(put, Put)
    assert put.entry.state == "maintenance"
    assert put.before == next(iter(before.values()))


def test_what_is_of_others_stays() -> None:
    foreign = msgspec.structs.replace(next(iter(listed(container()).values())), owner="somebody", value="x")
    unknown = Entry("web/other", "", "y")
    actual = {foreign.key: foreign, unknown.key: unknown}
    found = difference(services(container()), actual, "me", entry_of)
    assert found.actions == ()
    assert [refusal.why for refusal in found.refusals] == [
        f"{foreign.key} is there already, and it is somebody's"
    ]
    found = difference(services(container(labels={"SERVICE_ID": "other"})), actual, "me", entry_of)
    assert [refusal.why for refusal in found.refusals] == [
        "web/other is there already, and somebody else has written it"
    ]


def test_what_a_registry_cannot_have_is_refused_alone() -> None:
    made = container(1, labels={"SERVICE_NAME": "refused"}), container(2)
    found = difference(services(*made), {}, "me", entry_of)
    assert [refusal.why for refusal in found.refusals] == ["no such name here"]
    assert len(found.actions) == 1


def test_one_key_for_two_services_is_the_firsts() -> None:
    def same(service: Service) -> Entry:
        return Entry("k", "me", service.address)

    found = difference(services(container(1), container(2)), {}, "me", same)
    assert len(found.actions) == 1
    assert [refusal.why for refusal in found.refusals] == ["k is already that of the container web.1"]


class World(RuleBasedStateMachine):
    """An engine, a registry, and a registrar that loses sight of either, and dies, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.engine: dict[int, Container] = {}
        self.registry: dict[str, Entry] = {
            f"web/foreign-{number}": Entry(f"web/foreign-{number}", "somebody", "x") for number in range(2)
        }
        self.foreign = dict(self.registry)
        self.seen: list[Container] | None = None
        self.before: tuple[Service, ...] = ()
        self.engine_is_there = True
        self.registry_is_there = True

    numbers = st.integers(1, 6)

    @rule(number=numbers, port=st.sampled_from([8000, 8001]), named=st.booleans())
    def start(self, number: int, port: int, named: bool) -> None:
        labels = {"SERVICE_ID": "foreign-0"} if named else {}
        self.engine[number] = container(number, ports=[f"{port}:80"], labels=labels)

    @rule(number=numbers, status=st.sampled_from(["exited", "paused", "running", "restarting"]))
    def become(self, number: int, status: str) -> None:
        if number in self.engine:
            self.engine[number] = msgspec.structs.replace(self.engine[number], status=status)

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        self.engine.pop(number, None)

    @rule(is_there=st.booleans())
    def engine_goes_or_comes(self, is_there: bool) -> None:
        self.engine_is_there = is_there

    @rule(is_there=st.booleans())
    def registry_goes_or_comes(self, is_there: bool) -> None:
        self.registry_is_there = is_there

    @rule()
    def registrar_dies(self) -> None:
        self.seen, self.before = None, ()

    @rule(key=st.sampled_from(range(7)))
    def registry_loses_something(self, key: int) -> None:
        own = sorted(self.registry.keys() - self.foreign.keys())
        if own:
            del self.registry[own[key % len(own)]]

    @rule(stops_after=st.integers(0, 3))
    def is_cut_short(self, stops_after: int) -> None:
        self.reconcile(stops_after)

    @rule()
    def reconciles(self) -> None:
        self.reconcile()
        if self.engine_is_there and self.registry_is_there:
            running = [one for one in self.engine.values() if one.is_alive]
            expected = {
                entry.key: entry
                for entry in map(entry_of, services(*running))
                if entry.key not in self.foreign
            }
            assert self.registry == expected | self.foreign

    def reconcile(self, stops_after: int = 100) -> None:
        if self.engine_is_there:
            self.seen = list(self.engine.values())
        if self.seen is None or not self.registry_is_there:
            return
        found = desired(self.seen, Options(), HOST, now=0.0, before=self.before)
        self.before = found.services
        for action in difference(found.services, self.registry, "me", entry_of).actions[:stops_after]:
            if isinstance(action, Put):
                self.registry[action.entry.key] = action.entry
            else:
                del self.registry[action.entry.key]

    @invariant()
    def foreign_entries_are_as_they_were(self) -> None:
        assert self.foreign.items() <= self.registry.items()


World.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestWorld = World.TestCase
