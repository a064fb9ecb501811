"""What Locust is told: it arrives as it was sent, and surges end when the runner asks for calm."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from chaos.experiment.plan import PlannedSurge
from chaos.groups import Group, group_of
from chaos.load.order import CALM_FILE, LoadOrder
from chaos.topology.model import CalledInstance, InstanceConfig

SURGE = PlannedSurge(name="1-surge", at_s=1.0, until_s=3.0, rate_per_s=50.0, base_per_s=10.0)


def order(folder: Path) -> LoadOrder:
    client = InstanceConfig(
        service="client", instance="client", index=1, host="127.0.0.1", port=0, labels={},
        calls={"elb": (CalledInstance(instance="elb-1", address="127.0.0.1:1", labels={}),)},
        reached_by={}, settings={"scale": 60}, disabled=(), seed=5, data_dir="",
    )  # fmt: skip
    return LoadOrder(
        folder=folder, seed=5, rate_per_s=10.0, duration_s=4.0, processes=2, client=client, surges=(SURGE,)
    )


def test_an_order_arrives_as_it_was_sent(tmp_path: Path):
    assert LoadOrder.from_json(order(tmp_path).to_json()) == order(tmp_path)


def test_accounts_are_in_groups_only_where_that_was_ordered(tmp_path: Path):
    accounts = [f"account-{number}" for number in range(1000)]
    assert {order(tmp_path).group_of(account) for account in accounts} == {None}
    grouped = LoadOrder.from_json(replace(order(tmp_path), control_group=0.1).to_json())
    assert [grouped.group_of(account) for account in accounts] == [
        group_of(account, share=0.1, seed=5) for account in accounts
    ]
    assert {grouped.group_of(account) for account in accounts} == {*Group, None}


def test_an_order_with_half_a_surge_is_none(tmp_path: Path):
    with pytest.raises(ValueError, match="does not hold an order of the runner"):
        LoadOrder.from_json(order(tmp_path).to_json().replace('"rate_per_s":50.0,', ""))


def test_a_surge_under_way_ends_when_the_runner_asks_for_calm(tmp_path: Path):
    """Two processes share 120 arrivals; after 20 of its own, each hears of it."""
    for part in range(2):
        (tmp_path / CALM_FILE).unlink(missing_ok=True)
        schedule = order(tmp_path).arrivals(part)
        before = list(islice(schedule, 20))
        (tmp_path / CALM_FILE).touch()
        after = list(schedule)
        assert sum(one.surge for one in before) > 10
        assert not any(one.surge for one in after)
        assert sorted(one.number for one in (*before, *after) if not one.surge) == list(range(part, 40, 2))
