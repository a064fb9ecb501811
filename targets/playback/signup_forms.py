"""What people send to the Signup API: read from the body and the headers, and checked, with errors that help.

Every mistake is a BadForm whose text says which field it is in, and what is allowed; no text repeats a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from targets.playback.ledger_commands import EMAIL_LENGTH_MAX
from targets.playback.passwords import LENGTH_MAX, LENGTH_MIN
from targets.playback.validation import Plan

KEY_HEADER = "Idempotency-Key"
KEY_LENGTH_MAX = 128

_EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8}")
"""The addresses that HTML's ``<input type=email>`` takes, in lower case and with a dot in the domain."""

_COUNTRIES_SHOWN = 5


class BadForm(ValueError):  # noqa: N818 - it names what was sent
    """What was sent is not what is needed; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a log-in takes. The address is in the form in which it is kept: lower case, without spaces around it."""

    email: str
    password: str = field(repr=False)

    @classmethod
    def from_body(cls, body: bytes) -> Credentials:
        """Read a log-in's body. Raises BadForm."""
        form = _form(body)
        return cls(email=_email(form), password=_password(form, length_min=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpForm:
    """What a sign-up takes."""

    email: str
    password: str = field(repr=False)
    plan: Plan
    country: str

    @classmethod
    def from_body(cls, body: bytes, countries: Collection[str]) -> SignUpForm:
        """Read a sign-up's body; ``countries`` are those in which there is something to play. Raises BadForm."""
        form = _form(body)
        country = form.get("country")
        if not isinstance(country, str) or country not in countries:
            some = ", ".join(sorted(countries)[:_COUNTRIES_SHOWN])
            raise BadForm(f"country must be one of the {len(countries)} countries served, such as {some}")
        return cls(
            email=_email(form), password=_password(form, length_min=LENGTH_MIN), plan=_plan(form), country=country
        )


def plan_of(body: bytes) -> Plan:
    """Read the body of a change of plan. Raises BadForm."""
    return _plan(_form(body))


def idempotency_key(headers: Mapping[str, str], *content: str) -> str | None:
    """Return a digest of the caller's key together with what it is sent for, or None when there is no key.

    The same key with other content is another digest: a key never leads to what somebody else did with it.
    Raises BadForm for a key that is none.
    """
    key = headers.get(KEY_HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not (key.isascii() and key.isprintable()):
        raise BadForm(f"the header {KEY_HEADER} must be 1 to {KEY_LENGTH_MAX} printable ASCII characters")
    return sha256("\0".join((key, *content)).encode()).hexdigest()


def _form(body: bytes) -> Mapping[str, object]:
    try:
        form = json.loads(body)
    except (ValueError, RecursionError):
        raise BadForm("the body must be JSON") from None
    if not isinstance(form, dict):
        raise BadForm("the body must be a JSON object")
    return form


def _email(form: Mapping[str, object]) -> str:
    value = form.get("email")
    email = value.strip().lower() if isinstance(value, str) else ""
    if len(email) > EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(email):
        raise BadForm(f"email must be an address such as name@example.com of at most {EMAIL_LENGTH_MAX} characters")
    return email


def _password(form: Mapping[str, object], *, length_min: int) -> str:
    value = form.get("password")
    if not isinstance(value, str) or not length_min <= len(value) <= LENGTH_MAX:
        raise BadForm(f"password must be a text of {length_min} to {LENGTH_MAX} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadForm("password holds half of a surrogate pair, which is no character") from None
    return value


def _plan(form: Mapping[str, object]) -> Plan:
    value = form.get("plan")
    if not isinstance(value, str) or value not in set(Plan):
        raise BadForm(f"plan must be one of {', '.join(Plan)}")
    return Plan(value)
