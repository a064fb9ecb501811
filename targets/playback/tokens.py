"""The subscriber's token: signed claims, so that the gateway knows who asks without asking anybody.

    <key id>.<claims: subscriber, plan, country, expiry>.<signature>

The claims carry plan and country as well, and with them Playback Apps can still decide about a play when neither cache
nor store answers. Whoever is logged in therefore keeps playing while Sign-up, billing and the store are away.

The key id says which key of the ring signed; it is part of what the signature is made with, so it cannot be exchanged.
Keys are rotated by putting a new one in front and leaving the old one in the ring until its tokens have expired.

The expiry is a moment of the event loop's monotonic clock, which all processes of one machine share. Tokens of the seed
subscribers have none: they live as long as the run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

from itsdangerous import BadData, URLSafeSerializer

from targets.playback.validation import Subscriber

TOKEN_LENGTH_MAX = 1024
KEYS_MAX = 8

_SALT = "playback.token"
_ONLY = "0"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")


class InvalidToken(Exception):  # noqa: N818 - it names what the token is
    """The token is missing, was changed, or was signed with a key that is not in the ring."""


class ExpiredToken(InvalidToken):
    """The token was a right one until it expired: whoever brings it must log in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys by their ids: ``signing`` names the one that signs; all of them verify.

    Raises ValueError for ids that are none, empty secrets, and a signing key that is not in the ring.
    """

    signing: str
    secrets: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        if self.signing not in self.secrets:
            raise ValueError(f"the signing key {self.signing!r} is not in the ring ({', '.join(self.secrets)})")
        if len(self.secrets) > KEYS_MAX:
            raise ValueError(f"there are {len(self.secrets)} keys; a ring has at most {KEYS_MAX}")
        for key_id, secret in self.secrets.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError(f"the key id {key_id!r} is none: 1 to 16 of A-Z, a-z, 0-9, _ and - are allowed")
            if not secret:
                raise ValueError(f"the key {key_id!r} has no secret")

    @classmethod
    def of(cls, secret: str) -> Keyring:
        """Return the ring of a single key, whose id is ``0``."""
        return cls(signing=_ONLY, secrets={_ONLY: secret})

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Read ``k2=secret2,k1=secret1``: the first one signs. Raises ValueError."""
        secrets: dict[str, str] = {}
        for number, entry in enumerate(text.split(","), start=1):
            key_id, separator, secret = entry.strip().partition("=")
            if not separator:
                raise ValueError(f"signing_keys: entry {number} is not of the form <key id>=<secret>")
            if key_id in secrets:
                raise ValueError(f"signing_keys: there are two keys {key_id!r}")
            secrets[key_id] = secret
        return cls(signing=next(iter(secrets)), secrets=secrets)

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> Keyring:
        """Return the ring of a service's settings.

        ``signing_keys`` (as ``parse`` reads it) if it is there, and ``signing_key``, a text that is one secret. With
        both, the keys of the former come first and the latter still verifies, under the id ``0``: it is the key of the
        seed subscribers' tokens. Raises ValueError when both are missing or one is wrong.
        """
        single, several = settings.get("signing_key"), settings.get("signing_keys")
        if several is None:
            if single is None:
                raise ValueError("settings.signing_key is missing; tokens are signed with it")
            return cls.of(str(single))
        ring = cls.parse(str(several))
        if single is None or _ONLY in ring.secrets:
            return ring
        return cls(signing=ring.signing, secrets={**ring.secrets, _ONLY: str(single)})

    def rotated(self, key_id: str, secret: str) -> Keyring:
        """Return a ring in which a new key signs, and those of before still verify. Raises ValueError."""
        if key_id in self.secrets:
            raise ValueError(f"the key id {key_id!r} was used before: a new key needs a new one")
        return Keyring(signing=key_id, secrets={key_id: secret, **self.secrets})

    def without(self, key_id: str) -> Keyring:
        """Return a ring in which a key is retired: its tokens are refused. Raises ValueError for the one that signs."""
        if key_id == self.signing:
            raise ValueError(f"the key {key_id!r} signs; rotate before you retire it")
        return Keyring(signing=self.signing, secrets={one: s for one, s in self.secrets.items() if one != key_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says: who it is for, until when (None: for ever), and the key that vouches for it."""

    subscriber: Subscriber
    expires_at_s: float | None
    key_id: str


def issue(
    subscriber: Subscriber, keys: Keyring | str, *, now_s: float | None = None, lifetime_s: float | None = None
) -> str:
    """Return a token for ``subscriber``, signed with the ring's signing key, or with a single secret.

    It expires ``lifetime_s`` after ``now_s`` (without: now on the running loop's clock), or never when that is None.
    """
    ring = _ring(keys)
    expires_at_ms = None if lifetime_s is None else int((_moment(now_s) + lifetime_s) * 1000)
    claims = [subscriber.id, subscriber.plan, subscriber.country, expires_at_ms]
    text = _serializer(ring.signing, ring.secrets[ring.signing]).dumps(claims)
    return f"{ring.signing}.{text if isinstance(text, str) else text.decode()}"


def verify(token: str, keys: Keyring | str, *, now_s: float | None = None) -> Subscriber:
    """Return whom ``token`` is for; ``claims`` says the rest.

    Raises ExpiredToken for one whose time is over at ``now_s`` (without: now on the running loop's clock, which is read
    only for a token that expires), InvalidToken for any other that is not to be believed.
    """
    return claims(token, keys, now_s=now_s).subscriber


def claims(token: str, keys: Keyring | str, *, now_s: float | None = None) -> Claims:
    """Return what ``token`` says. Raises as ``verify`` does."""
    if len(token) > TOKEN_LENGTH_MAX:
        raise InvalidToken(f"a token has at most {TOKEN_LENGTH_MAX} characters")
    key_id, _, signed = token.partition(".")
    secret = _ring(keys).secrets.get(key_id)
    if secret is None:
        raise InvalidToken(f"it names the key {key_id[:16]!a}, which is unknown here or was retired")
    try:
        content = _serializer(key_id, secret).loads(signed)
    except (BadData, ValueError) as error:
        raise InvalidToken(str(error)) from error
    match content:
        case [str(subscriber), str(plan), str(country), int() | None as expires_at_ms]:
            pass
        case _:
            raise InvalidToken("its claims are none")
    try:
        found = Subscriber.from_json({"id": subscriber, "plan": plan, "country": country})
    except ValueError as error:
        raise InvalidToken(str(error)) from error
    expires_at_s = None if expires_at_ms is None else expires_at_ms / 1000
    if expires_at_s is not None and expires_at_s <= (at_s := _moment(now_s)):
        raise ExpiredToken(f"it expired {at_s - expires_at_s:.0f} s ago: log in again")
    return Claims(subscriber=found, expires_at_s=expires_at_s, key_id=key_id)


@lru_cache(maxsize=4 * KEYS_MAX)
def _serializer(key_id: str, secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt=f"{_SALT}/{key_id}", signer_kwargs={"digest_method": sha256})


@lru_cache(maxsize=8)
def _single(secret: str) -> Keyring:
    return Keyring.of(secret)


def _ring(keys: Keyring | str) -> Keyring:
    return _single(keys) if isinstance(keys, str) else keys


def _moment(now_s: float | None) -> float:
    return asyncio.get_running_loop().time() if now_s is None else now_s
