"""Which accounts are in the experiment, and which are its control."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import groups
from chaos.groups import Group, group_headers, group_of
from chaos.resilience import groups as passed_on

ACCOUNTS = st.text(max_size=60)
SEEDS = st.integers(0, 2**53)
SHARES = st.floats(0.01, groups.SHARE_MOST)


@pytest.mark.parametrize(
    ("account", "group"),
    [
        ("subscriber-00001", None),
        ("subscriber-00006", Group.CONTROL),
        ("subscriber-00042", Group.EXPERIMENT),
    ],
)
def test_the_group_of_an_account_is_the_same_for_ever(account, group):
    assert group_of(account, share=0.1, seed=7) is group


@given(ACCOUNTS, SEEDS, SHARES)
def test_a_wider_share_moves_nobody_out_of_the_experiment(account, seed, share):
    group = group_of(account, share=share, seed=seed)
    wider = group_of(account, share=(share + groups.SHARE_MOST) / 2, seed=seed)
    if group is Group.EXPERIMENT:
        assert wider is Group.EXPERIMENT
    if group is Group.CONTROL:
        assert wider is not None
    assert group_of(account, share=0.0, seed=seed) is None
    assert group_of(account, share=groups.SHARE_MOST, seed=seed) is not None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5])
def test_both_groups_are_slices_of_that_size(share):
    found = Counter(group_of(f"subscriber-{number:05}", share=share, seed=3) for number in range(20_000))
    for group in Group:
        assert found[group] / 20_000 == pytest.approx(share, abs=0.015)


def test_another_seed_is_another_choice():
    chosen = [
        {number for number in range(2000) if group_of(f"account-{number}", share=0.1, seed=seed) is Group.EXPERIMENT}
        for seed in (1, 2)
    ]
    assert len(chosen[0] & chosen[1]) < 60, "as many as chance puts into both: twenty"


def test_what_the_load_sends_is_what_services_pass_on():
    assert groups.GROUP_HEADER == passed_on.GROUP_HEADER
    assert {group.value for group in Group} == passed_on.GROUPS
    assert group_headers(Group.CONTROL) == {"X-Chaos-Group": "control"}
    assert group_headers(None) == {}
