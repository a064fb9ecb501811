"""The commands of the accounts' ledger: what each one must carry, read once from JSON and checked.

Checking depends on nothing but the command, so every replica comes to the same verdict. Times and chance are never
made here: a moment is part of the command, and so are new ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

ID_LENGTH_MAX = 128
ACCOUNT_LENGTH_MAX = 64
EMAIL_LENGTH_MAX = 254
"""The longest address that mail can be sent to (RFC 5321, 4.5.3.1.3, with its erratum 1690)."""

HASH_LENGTH_MAX = 256
WORD_LENGTH_MAX = 64
PERIOD_MAX = 1 << 53
AMOUNT_CENTS_MAX = 100_000_000
AT_S_MAX = 1e12


class Malformed(ValueError):  # noqa: N818 - it names what the command is
    """A command that is none; the message says what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUp:
    """A new account. ``period`` is the first one it is charged for; without it, the first that anybody charges."""

    id: str
    account: str
    email: str
    password_hash: str
    plan: str
    country: str
    at_s: float
    period: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePlan:
    """Another plan for an account."""

    id: str
    account: str
    plan: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The end of an account. ``period`` is the last one it is charged for; without it, nothing more is charged."""

    id: str
    account: str
    at_s: float
    period: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The charge of an account for a period. ``charged_by`` names who sent it, for counting."""

    id: str
    account: str
    period: int
    amount_cents: int
    at_s: float
    charged_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehash:
    """The same password, hashed with other parameters; it replaces ``old_hash`` and no other."""

    id: str
    account: str
    old_hash: str
    password_hash: str


Command: TypeAlias = SignUp | ChangePlan | Cancel | Charge | Rehash


class _Fields:
    """The fields of a command, read with their limits. Every method raises Malformed."""

    def __init__(self, data: Mapping[object, object]) -> None:
        self._data = data

    def has(self, name: str) -> bool:
        return self._data.get(name) is not None

    def text(self, name: str, length_max: int = WORD_LENGTH_MAX) -> str:
        value = self._data.get(name)
        # What is printable has neither control characters nor halves of surrogate pairs, which SQLite cannot store.
        if not isinstance(value, str) or not 1 <= len(value) <= length_max or not value.isprintable():
            raise Malformed(f"{name} is {_shown(value)}; it must be a printable text of 1 to {length_max} characters")
        return value

    def whole(self, name: str, maximum: int) -> int:
        value = self._data.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
            raise Malformed(f"{name} is {_shown(value)}; it must be a whole number from 0 to {maximum}")
        return value

    def number(self, name: str, maximum: float) -> float:
        value = self._data.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum:
            raise Malformed(f"{name} is {_shown(value)}; it must be a number from 0 to {maximum:g}")
        return float(value)

    def account(self) -> str:
        return self.text("account", ACCOUNT_LENGTH_MAX)

    def at_s(self) -> float:
        return self.number("at_s", AT_S_MAX)

    def period(self) -> int | None:
        return self.whole("period", PERIOD_MAX) if self.has("period") else None


def _sign_up(command: str, fields: _Fields) -> SignUp:
    return SignUp(
        id=command,
        account=fields.account(),
        email=fields.text("email", EMAIL_LENGTH_MAX),
        password_hash=fields.text("password_hash", HASH_LENGTH_MAX),
        plan=fields.text("plan"),
        country=fields.text("country"),
        at_s=fields.at_s(),
        period=fields.period(),
    )


def _change_plan(command: str, fields: _Fields) -> ChangePlan:
    return ChangePlan(id=command, account=fields.account(), plan=fields.text("plan"), at_s=fields.at_s())


def _cancel(command: str, fields: _Fields) -> Cancel:
    return Cancel(id=command, account=fields.account(), at_s=fields.at_s(), period=fields.period())


def _charge(command: str, fields: _Fields) -> Charge:
    return Charge(
        id=command,
        account=fields.account(),
        period=fields.whole("period", PERIOD_MAX),
        amount_cents=fields.whole("amount_cents", AMOUNT_CENTS_MAX),
        at_s=fields.at_s(),
        charged_by=fields.text("charged_by") if fields.has("charged_by") else "",
    )


def _rehash(command: str, fields: _Fields) -> Rehash:
    return Rehash(
        id=command,
        account=fields.account(),
        old_hash=fields.text("old_hash", HASH_LENGTH_MAX),
        password_hash=fields.text("password_hash", HASH_LENGTH_MAX),
    )


KINDS: Mapping[str, Callable[[str, _Fields], Command]] = {
    "sign_up": _sign_up,
    "change_plan": _change_plan,
    "cancel": _cancel,
    "charge": _charge,
    "rehash": _rehash,
}


def parse(data: object) -> Command:
    """Return the command in a JSON object. Raises Malformed; fields that are not a command's own count for nothing."""
    if not isinstance(data, Mapping):
        raise Malformed(f"a command is a JSON object, not {_shown(data)}")
    fields = _Fields(data)
    command = fields.text("id", ID_LENGTH_MAX)
    kind = data.get("kind")
    read = KINDS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise Malformed(f"kind is {_shown(kind)}; there are {', '.join(KINDS)}")
    return read(command, fields)


def id_of(data: object) -> str | None:
    """Return a command's own id, also of one that is malformed elsewhere; None when it has none that can be used."""
    if not isinstance(data, Mapping):
        return None
    try:
        return _Fields(data).text("id", ID_LENGTH_MAX)
    except Malformed:
        return None


def _shown(value: object) -> str:
    """Return a value for an error message: short, whatever it is, and printable."""
    match value:
        case None:
            return "missing"
        case str():
            return ascii(value[:40])
        case bool() | float():
            return repr(value)
        case int():
            return repr(value) if value.bit_length() <= 64 else "a number too large"
        case Mapping():
            return "a JSON object"
        case _:
            return "a JSON list" if isinstance(value, list) else f"a {type(value).__name__}"
