"""Keys that are retired at a gateway: their tokens are good for the time of grace, and then for nothing."""

from __future__ import annotations

import pytest

from targets.playback import tokens
from targets.playback.gateway_keys import GatewayKeys
from targets.playback.validation import Plan, Subscriber

WHO = Subscriber(id="subscriber-00001", plan=Plan.BASIC, country="country-01")
RING = tokens.Keyring.parse("new=the new secret,old=the old secret")
OLD = tokens.issue(WHO, tokens.Keyring(signing="old", secrets={"old": "the old secret"}), now_s=0.0)
NEW = tokens.issue(WHO, RING, now_s=0.0)


def test_a_retired_key_verifies_what_it_has_signed_until_its_grace_is_over():
    keys = GatewayKeys(RING, grace_s=10.0)
    keys.retire("old", 100.0)

    assert keys.verify(OLD, 109.9) == WHO
    with pytest.raises(tokens.InvalidToken, match="retired: log in again"):
        keys.verify(OLD, 110.0)
    assert keys.verify(NEW, 110.0) == WHO
    assert keys.to_json() == {
        "keys": {"new": {"retired": False}, "old": {"retired": True}},
        "by_retired": 1,
        "refused": 1,
        "of_retired": 2,
    }


def test_without_grace_a_retired_key_verifies_nothing_from_that_moment():
    keys = GatewayKeys(RING, grace_s=0.0)
    assert keys.verify(OLD, 100.0) == WHO

    keys.retire("old", 100.0)

    with pytest.raises(tokens.InvalidToken, match="retired"):
        keys.verify(OLD, 100.0)


def test_a_key_is_retired_since_the_first_time_that_was_said_and_can_be_restored():
    keys = GatewayKeys(RING, grace_s=10.0)
    keys.retire("old", 100.0)
    keys.retire("old", 109.0)
    with pytest.raises(tokens.InvalidToken):
        keys.verify(OLD, 111.0)

    keys.restore("old")

    assert keys.verify(OLD, 111.0) == WHO


def test_grace_makes_no_bad_token_good():
    keys = GatewayKeys(RING, grace_s=10.0)
    keys.retire("old", 100.0)

    with pytest.raises(tokens.InvalidToken):
        keys.verify(OLD[:-2], 101.0)
    assert keys.to_json()["by_retired"] == 0


@pytest.mark.parametrize("change", ["retire", "restore"])
def test_a_key_that_is_not_there_is_a_mistake(change):
    keys = GatewayKeys(RING, grace_s=10.0)

    with pytest.raises(KeyError):
        keys.retire("other", 0.0) if change == "retire" else keys.restore("other")
