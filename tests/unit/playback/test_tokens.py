"""The subscriber's token."""

from __future__ import annotations

import pytest
from itsdangerous import URLSafeSerializer

from targets.playback import tokens
from targets.playback.validation import Plan, Subscriber

SUBSCRIBER = Subscriber(id="subscriber-00001", plan=Plan.PREMIUM, country="country-01")


def test_the_claims_come_back_from_the_token():
    assert tokens.verify(tokens.issue(SUBSCRIBER, "key"), "key") == SUBSCRIBER


def test_a_token_signed_with_another_key_is_refused():
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(tokens.issue(SUBSCRIBER, "another key"), "key")


def test_a_token_with_any_character_changed_is_refused():
    token = tokens.issue(SUBSCRIBER, "key")
    for position, character in enumerate(token[:-1]):  # the last one carries bits that decoding ignores
        changed = token[:position] + ("A" if character != "A" else "B") + token[position + 1 :]
        with pytest.raises(tokens.InvalidToken):
            tokens.verify(changed, "key")


@pytest.mark.parametrize("token", ["", ".", "a.b", "x" * 2000, "ü"])
def test_what_is_no_token_is_refused(token):
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(token, "key")


@pytest.mark.parametrize("claims", [[], ["a"], "abc", ["a", "gold", "c"], [1, 2, 3], {"a": 1}, None])
def test_signed_claims_that_are_none_are_refused(claims):
    from hashlib import sha256

    signer = URLSafeSerializer("key", salt="playback.token", signer_kwargs={"digest_method": sha256})
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(signer.dumps(claims), "key")
