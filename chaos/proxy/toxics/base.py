"""What a toxic is: a kind of trouble with its settings, and how it meets a connection."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, ClassVar

from chaos.proxy.toxics.chain import Stage

Value = int | float | str
"""What a setting of a toxic can be."""

HOUR_MS = 3_600_000
GIB = 2**30


class Direction(StrEnum):
    """``upstream`` is from the caller to the server, ``downstream`` the way back."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


def attribute(
    name: str,
    default: Value = 0,
    *,
    least: float | None = None,
    most: float | None = None,
    one_of: tuple[str, ...] = (),
    extension: bool = False,
) -> Any:
    """Declare a setting called ``name`` in the API; its type is that of its default.

    ``least``, ``most`` and ``one_of`` limit it; the settings that Toxiproxy has are not limited, as they are not there.
    An ``extension`` of a kind that Toxiproxy has is shown only where it is not at its default.
    """
    metadata = {"attribute": name, "least": least, "most": most, "one_of": one_of, "extension": extension}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One setting of a kind, as the API and its checks need it."""

    name: str
    """In the API."""
    field: str
    """Of the dataclass."""
    default: Value
    least: float | None
    most: float | None
    one_of: tuple[str, ...]
    extension: bool

    def problem(self, value: Value) -> str:
        """Return what is wrong with a value, and what is allowed; empty when nothing is."""
        if self.one_of and value not in self.one_of:
            return f"{self.name} is {value!r}, allowed is one of {', '.join(filter(None, self.one_of))}"
        if isinstance(value, str):
            return ""
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            return f"{self.name} is {_number(value)}, allowed is {_number(self.least)} to {_number(self.most)}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """A toxic meets a connection."""

    now_s: float
    since_s: float
    """When the toxic was installed; before or at ``now_s``."""
    rng: Callable[[], random.Random]
    """Makes the source of all of the toxic's random choices on this connection in this direction. Most need none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic(ABC):
    """One kind of trouble with its settings. Its fields carry their unit; ``attributes`` are the names in the API."""

    kind: ClassVar[str]
    extension: ClassVar[bool] = False
    """Whether Toxiproxy does not have this kind. Its settings are checked then, and wrong ones refused."""

    @classmethod
    def settings(cls) -> tuple[Attribute, ...]:
        """Return the settings of this kind, in the order of the API: what is special about it first."""
        own = inspect.get_annotations(cls)
        return tuple(
            Attribute(field=one.name, default=_default(one.default), **_named(one.metadata))
            for one in sorted(fields(cls), key=lambda one: one.name not in own)
        )

    @property
    def attributes(self) -> dict[str, Value]:
        """The settings under the API's names, in the API's order."""
        values = [(one, getattr(self, one.field)) for one in self.settings()]
        return {one.name: value for one, value in values if not (one.extension and value == one.default)}

    @property
    def needs_extension(self) -> bool:
        """Whether a server that only knows what Toxiproxy knows could not do this."""
        return self.extension or any(
            one.extension and getattr(self, one.field) != one.default for one in self.settings()
        )

    def with_attributes(self, attributes: Mapping[str, Value]) -> Toxic:
        """Return this toxic with some settings changed; names that it does not know are ignored."""
        names = {one.name: one.field for one in self.settings()}
        return replace(self, **{names[name]: value for name, value in attributes.items() if name in names})

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, each with what is allowed."""
        found = [one.problem(getattr(self, one.field)) for one in self.settings() if self.extension or one.extension]
        return [one for one in found if one] + self.problems_together()

    def problems_together(self) -> list[str]:
        """Return what is wrong between settings, for kinds that have something to say about that."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamToxic(Toxic):
    """A toxic on the bytes of a connection, whatever they mean."""

    both_ways: ClassVar[bool] = False
    """Whether it is at work in both directions, whatever its stream is."""

    @abstractmethod
    def stage(self, met: Meeting) -> Stage:
        """Return the toxic at work on one direction of a connection."""


def _number(value: float | None) -> str:
    """Return a number with all its digits; None is no limit."""
    return "any" if value is None else str(int(value)) if float(value).is_integer() else f"{value:g}"


def _default(value: object) -> Value:
    assert value is not MISSING
    assert isinstance(value, int | float | str)
    return value


def _named(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": metadata["attribute"], **{key: metadata[key] for key in ("least", "most", "one_of", "extension")}}
