"""A small size of what ``make faults-services`` does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.machine import missing, require_namespaces, within
from tests.services.faults.cluster import (
    KINDS,
    cluster_faults,
    directory_over_two_elections,
    small_faults,
)
from tests.services.faults.report import Finding, table
from tests.services.faults.sqlite import full_disk


@pytest.mark.slow
def test_a_disk_that_is_full() -> None:
    if os.geteuid() != 0:
        missing("mounting a disk needs root, which this process is not,")
    (finding,) = full_disk(1.0)
    assert finding.is_right, finding.came


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_three_nodes_whose_leader_is_killed(kind: str) -> None:
    (finding,) = small_faults(kind)
    assert finding.is_right, finding.came


@pytest.mark.services
@pytest.mark.slow
def test_three_nodes_of_which_one_is_cut_off() -> None:
    require_namespaces()
    findings = [*cluster_faults("etcd", 0.1)]
    assert [finding.what for finding in findings] == ["etcd: a follower cut off from its peers"]
    assert findings[0].is_right, findings[0].came


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_dns_while_the_store_elects_leaders(kind: str) -> None:
    """Each question is answered with instances, at once, while the store's leader is killed twice (D-3); nobody goes missing, and at
    no fence there are two leaders."""
    load = directory_over_two_elections(kind)
    assert load.problems == [], load.came()
    assert load.answers > 100
    assert load.lookups > 100
    assert len(load.terms) > 3


def test_the_table() -> None:
    assert table([Finding("a", "b", True), Finding("long", "c", False)]) == "ok    a     b\nFAIL  long  c\n"


@pytest.mark.slow
def test_the_command() -> None:
    command = [sys.executable, "-m", "tests.services.faults", "sqlite", "--size", "0.01"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=within(60), check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 SIGKILLs of a writing process" in ran.stdout
    wrong = subprocess.run(
        [*command[:-3], "nothing"], capture_output=True, text=True, timeout=within(60), check=False
    )
    assert wrong.returncode == 2
    assert "no group nothing; there are sqlite" in wrong.stderr
