"""The settings of a fault: fields of its dataclass that carry their help, their limits and their name in Toxiproxy."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import Any, ClassVar, get_type_hints

from chaos.faults.base import Fault, Layer

_UNITS = {
    "kb_per_s": "kilobytes a second",
    "ms": "milliseconds",
    "us": "microseconds",
    "s": "seconds",
    "bytes": "bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingInfo:
    """One setting, as the parser, the schema and ``chaos faults`` need it."""

    name: str
    type: type
    """int, float, str, or an enum of texts; the type without ``None``."""
    help: str
    default: object
    """``dataclasses.MISSING`` when it is required."""
    least: float
    most: float
    share: bool
    """Whether it is a share, which may also be written ``30%``."""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def unit(self) -> str:
        """The word for the unit at the end of the name: milliseconds for ``latency_ms``."""
        return next((word for suffix, word in _UNITS.items() if self.name.endswith(f"_{suffix}")), "")


def setting(
    help: str,  # noqa: A002 - the word that `chaos faults` uses
    default: Any = MISSING,
    *,
    least: float = 0,
    most: float = math.inf,
    share: bool = False,
    toxiproxy: str | None = None,
    extension: str | None = None,
) -> Any:
    """Declare a setting: a dataclass field with its help and its limits.

    On the wire it also names the attribute of the toxic: ``toxiproxy`` one that Toxiproxy has, ``extension`` one that
    only the embedded proxy has, and that is left out while it is at its default.
    """
    metadata = {
        "help": help, "least": least, "most": most, "share": share, "toxiproxy": toxiproxy, "extension": extension,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def settings_of(fault: type[Fault]) -> tuple[SettingInfo, ...]:
    """Return the settings of a kind of fault: what is special about it first, what it shares with others after that."""
    hints = get_type_hints(fault)
    own = inspect.get_annotations(fault)
    fields = sorted(_fields(fault), key=lambda one: one.name not in own)
    return tuple(
        SettingInfo(
            name=one.name,
            type=_without_none(hints[one.name]),
            help=one.metadata["help"],
            default=one.default,
            least=one.metadata["least"],
            most=one.metadata["most"],
            share=one.metadata["share"],
        )
        for one in fields
    )


def describe(fault: Fault) -> str:
    """Return the fault in a few words: ``latency (latency_ms 2000, jitter_ms 200)``, without what is at its default."""
    words = []
    for one in settings_of(type(fault)):
        value = getattr(fault, one.name)
        if value is not None and (one.required or value != one.default):
            words.append(f"{one.name} {value:g}" if isinstance(value, int | float) else f"{one.name} {value}")
    return f"{fault.kind} ({', '.join(words)})" if words else fault.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSettings:
    """Base of all faults: checks every setting against the limits in its declaration."""

    kind: ClassVar[str]
    layer: ClassVar[Layer]

    @property
    def needs_embedded(self) -> bool:
        """Whether only the embedded proxy server can do it: where a setting that Toxiproxy lacks is used."""
        return any(
            one.metadata["extension"] is not None and getattr(self, one.name) != one.default
            for one in dataclasses.fields(self)
        )

    @property
    def proves_itself(self) -> bool:
        """By the counters of proxies and of the kernel."""
        return True

    @property
    def leaves_traces(self) -> bool:
        """Nothing stays."""
        return False

    @property
    def holds(self) -> str:
        """Nothing but what is its own."""
        return ""

    def target_settings(self) -> Sequence[tuple[str, str]]:
        """None are put in."""
        return ()

    def check(self) -> Sequence[tuple[str, str]]:
        """Return (setting, what is wrong and what is allowed) for each wrong setting."""
        problems = []
        for one in dataclasses.fields(self):
            value, least, most = getattr(self, one.name), one.metadata["least"], one.metadata["most"]
            if isinstance(value, int | float) and not least <= value <= most:
                problems.append((one.name, f"{value:g} is out of range, allowed is {least:g} to {most:g}"))
        return [*problems, *self.check_together()]

    def check_together(self) -> Sequence[tuple[str, str]]:
        """Return what is wrong between settings, for kinds that have something to say about that."""
        return []


def _fields(fault: type[Fault]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(fault)  # type: ignore[arg-type]  # the contract of Fault: every fault is a dataclass


def _without_none(hint: Any) -> type:
    arguments = [one for one in getattr(hint, "__args__", ()) if one is not type(None)]
    found = arguments[0] if arguments else hint
    assert isinstance(found, type)
    return found
