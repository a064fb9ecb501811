"""The subscriber's token."""

from __future__ import annotations

import asyncio
from hashlib import sha256

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


@pytest.mark.parametrize("token", ["", ".", "a.b", "0.", "0.a.b", "x" * 2000, "0." + "x" * 1023, "ü", "\ud800", "\0"])
def test_what_is_no_token_is_refused(token):
    with pytest.raises(tokens.InvalidToken):
        tokens.verify(token, "key")


@pytest.mark.parametrize(
    "claims",
    [
        [],
        ["a"],
        "abc",
        ["a", "gold", "c", None],
        ["a", "basic", "c"],
        ["a", "basic", "c", "soon"],
        ["a", "basic", "c", None, 1],
        [1, 2, 3, 4],
        {"a": 1},
        None,
    ],
)
def test_signed_claims_that_are_none_are_refused(claims):
    signer = URLSafeSerializer("key", salt="playback.token/0", signer_kwargs={"digest_method": sha256})
    with pytest.raises(tokens.InvalidToken):
        tokens.verify("0." + signer.dumps(claims), "key")


def test_a_token_without_a_lifetime_never_expires():
    token = tokens.issue(SUBSCRIBER, "key")

    assert tokens.claims(token, "key").expires_at_s is None
    assert tokens.verify(token, "key", now_s=1e12) == SUBSCRIBER


def test_a_token_expires_at_its_moment_and_says_so():
    token = tokens.issue(SUBSCRIBER, "key", now_s=100.0, lifetime_s=60.0)

    assert tokens.claims(token, "key", now_s=159.9) == tokens.Claims(
        subscriber=SUBSCRIBER, expires_at_s=160.0, key_id="0"
    )
    with pytest.raises(tokens.ExpiredToken, match="it expired 5 s ago: log in again"):
        tokens.verify(token, "key", now_s=165.0)
    with pytest.raises(tokens.ExpiredToken):
        tokens.verify(token, "key", now_s=160.0)


def test_an_expired_token_with_a_wrong_signature_is_not_even_called_expired():
    token = tokens.issue(SUBSCRIBER, "another key", now_s=0.0, lifetime_s=1.0)

    with pytest.raises(tokens.InvalidToken) as caught:
        tokens.verify(token, "key", now_s=99.0)
    assert not isinstance(caught.value, tokens.ExpiredToken)


async def test_without_a_moment_the_running_loop_says_what_time_it_is():
    loop = asyncio.get_running_loop()
    assert tokens.verify(tokens.issue(SUBSCRIBER, "key", lifetime_s=60.0), "key") == SUBSCRIBER
    with pytest.raises(tokens.ExpiredToken):
        tokens.verify(tokens.issue(SUBSCRIBER, "key", now_s=loop.time() - 61.0, lifetime_s=60.0), "key")


def test_after_a_rotation_the_new_key_signs_and_the_old_one_still_verifies_until_it_is_retired():
    old = tokens.Keyring(signing="k1", secrets={"k1": "secret1"})
    token = tokens.issue(SUBSCRIBER, old)
    both = old.rotated("k2", "secret2")

    assert tokens.claims(token, both).key_id == "k1"
    assert tokens.claims(tokens.issue(SUBSCRIBER, both), both).key_id == "k2"
    with pytest.raises(tokens.InvalidToken, match="it names the key 'k1', which is unknown here or was retired"):
        tokens.verify(token, both.without("k1"))
    with pytest.raises(tokens.InvalidToken, match="'k2'"):
        tokens.verify(tokens.issue(SUBSCRIBER, both), old)


def test_a_token_cannot_be_given_another_key_id_even_when_the_secrets_are_equal():
    ring = tokens.Keyring(signing="k1", secrets={"k1": "same", "k2": "same"})
    token = tokens.issue(SUBSCRIBER, ring)

    with pytest.raises(tokens.InvalidToken):
        tokens.verify("k2" + token.removeprefix("k1"), ring)


def test_settings_name_one_key_or_several_of_which_the_first_signs():
    one = tokens.Keyring.from_settings({"signing_key": "a=b,c"})
    several = tokens.Keyring.from_settings({"signing_keys": "k2=secret=2, k1=secret1"})
    both = tokens.Keyring.from_settings({"signing_key": "seed", "signing_keys": "k1=secret1"})

    assert (one.signing, one.secrets) == ("0", {"0": "a=b,c"})
    assert (several.signing, several.secrets) == ("k2", {"k2": "secret=2", "k1": "secret1"})
    assert (both.signing, both.secrets) == ("k1", {"k1": "secret1", "0": "seed"})
    assert tokens.verify(tokens.issue(SUBSCRIBER, "seed"), both) == SUBSCRIBER
    assert "secret1" not in repr(both)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: tokens.Keyring.from_settings({}), "settings.signing_key is missing"),
        (lambda: tokens.Keyring.parse("k1=a,k2"), "entry 2 is not of the form <key id>=<secret>"),
        (lambda: tokens.Keyring.parse("k1=a,k1=b"), "two keys 'k1'"),
        (lambda: tokens.Keyring.parse("k.1=a"), "the key id 'k.1' is none"),
        (lambda: tokens.Keyring.parse("k1="), "the key 'k1' has no secret"),
        (lambda: tokens.Keyring.parse(",".join(f"k{n}=a" for n in range(9))), "at most 8"),
        (lambda: tokens.Keyring(signing="k2", secrets={"k1": "a"}), "'k2' is not in the ring"),
        (lambda: tokens.Keyring.of("a").without("0"), "rotate before you retire it"),
        (lambda: tokens.Keyring.of("a").rotated("0", "b"), "was used before"),
    ],
)
def test_a_ring_that_cannot_be_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
