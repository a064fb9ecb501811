"""The subscriber's token: signed claims, so that the gateway knows who asks without asking anybody.

The claims carry plan and country as well, and with them Playback Apps can still decide about a play when neither cache
nor store answers. Tokens have no expiry: they live as long as the run whose key signed them, and the signature needs no
clock.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from itsdangerous import BadData, URLSafeSerializer

from targets.playback.validation import Subscriber

_SALT = "playback.token"
_TOKEN_LENGTH_MAX = 1024


class InvalidToken(Exception):  # noqa: N818 - it names what the token is
    """The token is missing, was changed, or was signed with another key."""


@lru_cache(maxsize=8)
def _serializer(signing_key: str) -> URLSafeSerializer:
    return URLSafeSerializer(signing_key, salt=_SALT, signer_kwargs={"digest_method": sha256})


def issue(subscriber: Subscriber, signing_key: str) -> str:
    """Return a token for ``subscriber``, signed with ``signing_key``."""
    text = _serializer(signing_key).dumps([subscriber.id, subscriber.plan, subscriber.country])
    return text if isinstance(text, str) else text.decode()


def verify(token: str, signing_key: str) -> Subscriber:
    """Return the claims of ``token``. Raises InvalidToken."""
    if len(token) > _TOKEN_LENGTH_MAX:
        raise InvalidToken(f"a token has at most {_TOKEN_LENGTH_MAX} characters")
    try:
        claims = _serializer(signing_key).loads(token)
        subscriber, plan, country = claims
        return Subscriber.from_json({"id": subscriber, "plan": plan, "country": country})
    except (BadData, TypeError, ValueError) as error:
        raise InvalidToken(str(error)) from error
