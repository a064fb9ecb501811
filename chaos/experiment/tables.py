"""The keys of an experiment file, as tables: what the parser reads and the schema describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType

from chaos import yamlfile
from chaos.errors import suggest
from chaos.experiment.model import PhaseName
from chaos.experiment.rules import GUARD_PATTERN, RULE_PATTERN, Sentence, read_sentence
from chaos.faults.base import Fault, Layer
from chaos.faults.registry import FAULTS
from chaos.faults.settings import SettingInfo, settings_of
from chaos.fields import Field, Kind, ListOf, MapOf, Schema, Section, Table, Where, found, shown
from chaos.groups import SHARE_MOST
from chaos.kinds import Choice, File, Integer, Label, Number, Setting, Text, duration, rate, share
from chaos.topology.model import Scalar
from chaos.topology.tables import MAX_INSTANCES, MAX_WORKERS
from chaos.yamlfile import Node

MAX_FAULTS = 50
MAX_SURGES = 20
MAX_RATE_PER_S = 10_000.0
MAX_USERS = 100_000
MAX_PHASE_S = 3600.0
MAX_EXTEND_S = 600.0
MIN_HOLD_S = 4.0
"""The steady state is looked for in windows of three seconds (`chaos.verdict.recovery`)."""
DEFAULT_PHASES_S: Mapping[PhaseName, float] = MappingProxyType(
    {PhaseName.WARM_UP: 3.0, PhaseName.BASELINE: 8.0, PhaseName.FAULT: 10.0, PhaseName.RECOVERY: 8.0}
)


class Words:
    """A rule or a guard: the words are read here, what they mean is known with the target's metrics."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    def read(self, node: Node, where: Where) -> tuple[Sentence, Node] | None:
        """Return the sentence and where it stands."""
        text = Text(what="a rule, like 'availability >= 99.5%'").read(node, where)
        if text is None:
            return None
        try:
            return read_sentence(text), node
        except ValueError as error:
            where.report(node, str(error))
            return None

    def schema(self) -> Schema:
        """Return the JSON Schema of the sentence."""
        return {"type": "string", "pattern": self._pattern}


class SwitchOrParts:
    """``true`` for something with all of its defaults, ``false`` for nothing, or a mapping that says how."""

    def __init__(self, parts: Table) -> None:
        self._parts = parts

    def read(self, node: Node, where: Where) -> Section | bool | None:
        """Return the switch, or the parts."""
        if isinstance(node, yamlfile.Scalar) and isinstance(node.value, bool):
            return node.value
        return self._parts.read(node, where)

    def schema(self) -> Schema:
        """Return the JSON Schema of both."""
        return {"anyOf": [{"type": "boolean"}, self._parts.schema()]}


class LoadSettings:
    """What the Locust file is told: anything, but for the two numbers that are options of Locust itself."""

    _anything: MapOf[Scalar] = MapOf(value=Setting())
    _options: Mapping[str, Kind[float]] = MappingProxyType(
        {
            "users": Integer(least=1, most=MAX_USERS, unit="users"),
            "spawn_rate": Number(least=0.001, most=MAX_USERS, unit="users a second"),
        }
    )

    def read(self, node: Node, where: Where) -> Mapping[str, Scalar] | None:
        """Return the settings."""
        settings = self._anything.read(node, where)
        for entry in node.entries if isinstance(node, yamlfile.Mapping) else ():
            if settings and entry.key in settings and entry.key in self._options:
                self._options[entry.key].read(entry.value, where.inside(entry.key))
        return settings

    def schema(self) -> Schema:
        """Return the JSON Schema of the settings."""
        return {**self._anything.schema(), "properties": {name: one.schema() for name, one in self._options.items()}}


# -- faults -----------------------------------------------------------------------------------------------------------

KIND = Field(
    "kind", Text(what="a kind of fault", longest=60), "what happens; `chaos faults` lists the kinds", required=True
)
SERVICE = Field("service", Text(what="the name of a service", longest=60), "whom it falls on", required=True)
WHERE = Field("where", MapOf(value=Label(), least=1, most=20), "only instances with these labels")
PICK = Field(
    "pick",
    Integer(least=1, most=1000, unit="instances"),
    "so many of the instances, drawn from the seed; without it, all",
)
AT = Field("at", duration(most_s=MAX_PHASE_S), "when it begins, from the start of the fault phase; 0s without it")
FOR = Field(
    "for", duration(most_s=MAX_PHASE_S, above=True), "how long it lasts; without it, until the fault phase ends"
)
FROM = Field(
    "from",
    Text(what="the name of a service or client", longest=60),
    "only on the connections of this calling service or client",
)
_COMMON = Table(KIND, SERVICE, WHERE, PICK, AT, FOR)
_WIRE_ONLY = "only faults on the wire have it; a fault on the host hits the process, whoever calls it"
_HOST_HINTS = dict.fromkeys((FROM.key, "stream", "toxicity"), _WIRE_ONLY)


def setting_field(info: SettingInfo) -> Field[object]:
    """Return the field of a fault's setting."""
    return Field(info.name, _kind_of(info), info.help, required=info.required)


def _kind_of(info: SettingInfo) -> Kind[object]:
    if info.share:
        return share()
    if issubclass(info.type, StrEnum):
        return Choice(info.type)
    if info.type is str:
        return Text(longest=1000)
    if info.type is int:
        return Integer(least=int(info.least), most=int(_finite(info)), unit=info.unit)
    return Number(least=info.least, most=_finite(info), unit=info.unit)


def _finite(info: SettingInfo) -> float:
    assert math.isfinite(info.most), f"the setting {info.name} has no upper limit"
    return info.most


def _table_of(fault: type[Fault]) -> Table:
    settings = [setting_field(info) for info in settings_of(fault)]
    if fault.layer is Layer.WIRE:
        return _COMMON.with_fields([FROM, *settings])
    return _COMMON.with_fields(settings, hints=_HOST_HINTS)


FAULT_TABLES: Mapping[str, Table] = MappingProxyType({kind: _table_of(fault) for kind, fault in FAULTS.items()})
"""The keys of one item of ``faults:``, for each kind."""


class FaultItem:
    """One item of ``faults:``; its kind decides which other keys it has."""

    def read(self, node: Node, where: Where) -> Section | None:
        """Read the item by the table of its kind."""
        if not isinstance(node, yamlfile.Mapping):
            where.report(node, f"{found(node)}; write a fault here, like 'kind: kill' with 'service: ...' below it")
            return None
        entry = node.get(KIND.key)
        if entry is None:
            where.inside(KIND.key).report(node, f"missing; allowed are: {', '.join(FAULTS)}")
            return None
        kind = entry.value.text if isinstance(entry.value, yamlfile.Scalar) else ""
        table = FAULT_TABLES.get(kind)
        if table is None:
            said = shown(kind) if kind else found(entry.value)
            message = f"no kind of fault: {said}, allowed are: {', '.join(FAULTS)}{suggest(kind, FAULTS)}"
            where.inside(KIND.key).report(entry.value, message)
            return None
        return table.read(node, where)

    def schema(self) -> Schema:
        """Return the JSON Schema: one of the kinds, each with its own keys."""
        kinds = []
        for kind, table in FAULT_TABLES.items():
            schema = table.schema()
            properties = schema["properties"]
            assert isinstance(properties, dict)
            summary = (FAULTS[kind].__doc__ or "").strip().splitlines()[0]
            first = {KIND.key: {"const": kind, "description": summary}}
            kinds.append({**schema, "title": kind, "properties": {**properties, **first}})
        return {
            "type": "object",
            "required": [KIND.key],
            "properties": {KIND.key: {"enum": list(FAULTS)}},
            "oneOf": kinds,
        }


# -- the rest ---------------------------------------------------------------------------------------------------------


def _phase(name: PhaseName, help_text: str) -> Field[float]:
    above = name is not PhaseName.WARM_UP
    default = f"{DEFAULT_PHASES_S[name]:g}s"
    return Field(str(name), duration(most_s=MAX_PHASE_S, above=above), f"{help_text}; {default} without it")


PHASE_FIELDS: Mapping[PhaseName, Field[float]] = MappingProxyType(
    {
        PhaseName.WARM_UP: _phase(
            PhaseName.WARM_UP, "load that is not measured, until caches and connections are warm"
        ),
        PhaseName.BASELINE: _phase(PhaseName.BASELINE, "load without a fault: what 'of baseline' refers to"),
        PhaseName.FAULT: _phase(PhaseName.FAULT, "load with the faults; the steady state is judged here"),
        PhaseName.RECOVERY: _phase(PhaseName.RECOVERY, "load after healing: how soon is the state steady again"),
    }
)

LOCUSTFILE = Field("locustfile", File(what="a path"), "the Locust file, relative to this file", required=True)
RATE = Field(
    "rate",
    rate(most_per_s=MAX_RATE_PER_S),
    "arrivals a second, on an open schedule; leave it out for a locustfile that makes its own",
)
QUICK_RATE = Field(
    "quick_rate",
    rate(most_per_s=MAX_RATE_PER_S),
    "arrivals a second at most in the gate's quick form, where its own rate is too much for what each of these costs",
)
WORKERS = Field(
    "workers", Integer(least=0, most=64, unit="processes"), "Locust worker processes; 0 runs Locust as one process"
)
MAX_START_LAG = Field(
    "max_start_lag",
    duration(most_s=60, above=True),
    "p99 of the load generator's own lateness above which the run is inconclusive; 100ms without it",
)
LOAD_SETTINGS: Field[Mapping[str, Scalar]] = Field("settings", LoadSettings(), "what the Locust file is told")

SURGE_RATE = Field(
    "rate",
    rate(most_per_s=MAX_RATE_PER_S),
    "arrivals a second while it lasts: more than the load's rate",
    required=True,
)
SURGES = Field(
    "surges",
    ListOf(item=Table(AT, FOR, SURGE_RATE), most=MAX_SURGES),
    "when there is more load for a while, within the fault phase",
)

TITLE = Field("title", Text(longest=200), "what the experiment asks, for people", required=True)
DESCRIPTION = Field("description", Text(), "what it is about, at length")
TARGET = Field(
    "target", File(what="a path"), "the target: its folder or its topology.yaml, relative to this file", required=True
)
SEED = Field(
    "seed", Integer(least=0, most=2**53), "decides every random choice; without it, each command draws a new one"
)
TAGS = Field(
    "tags",
    ListOf(item=Text(what="a word", pattern=r"[\w.-]{1,60}", longest=60), most=50, unique=True),
    "words to find it by",
)
PHASES = Field("phases", Table(*PHASE_FIELDS.values()), "how long each phase lasts")
LOAD = Field(
    "load",
    Table(LOCUSTFILE, RATE, QUICK_RATE, WORKERS, MAX_START_LAG, LOAD_SETTINGS, SURGES),
    "what Locust is asked to do",
    required=True,
)
SETTINGS: Field[Mapping[str, Scalar]] = Field(
    "settings", MapOf(value=Setting()), "settings of the target that differ in this experiment"
)
REPLICAS: Field[Mapping[str, int]] = Field(
    "replicas",
    MapOf(value=Integer(least=1, most=MAX_INSTANCES, unit="instances"), most=100),
    "how many instances services have in this experiment, by service, like 'playback_apps: 4'",
)
SERVICE_WORKERS: Field[Mapping[str, int]] = Field(
    "workers",
    MapOf(value=Integer(least=1, most=MAX_WORKERS, unit="processes"), most=100),
    "how many processes serve each instance's port in this experiment, by service, like 'play_api: 2'",
)
FAULTS_LIST = Field(
    "faults",
    ListOf(item=FaultItem(), least=1, most=MAX_FAULTS),
    "what happens to the target; may be left out when the load has a surge",
)
STEADY_STATE = Field(
    "steady_state",
    ListOf(item=Words(RULE_PATTERN), least=1, most=50),
    "what must be true while the faults are there, like 'availability >= 99.5%'",
    required=True,
)
CONTROL_GROUP = Field(
    "control_group",
    replace(share(), least=0.01, most=SHARE_MOST, above=False),
    "share of the accounts on which the faults fall, like 10%; as many others, on whom none falls, are under the same "
    "load at the same time, and rules 'of control_group' compare with them. Without it the faults fall on everybody",
)
MUST_BREAK = Field(
    "must_break",
    ListOf(item=Words(RULE_PATTERN), most=20),
    "what the faults must break, like 'test_account_availability <= 1%'; a run in which they do not is inconclusive",
)
ABORT_WHEN = Field(
    "abort_when",
    ListOf(item=Words(GUARD_PATTERN), most=20),
    "when to heal at once, like 'availability < 20% for 3s' or 'availability < 95% with evidence 100'",
)
RECOVER_WITHIN = Field(
    "recover_within",
    duration(most_s=MAX_PHASE_S, above=True),
    "the steady state must hold again this long after healing",
)
ALPHA = Field(
    "alpha",
    replace(share(), least=0.0001, most=0.2, above=False),
    "in which share of runs, at most, a system that just keeps a rule may be said to break it; 5% without it",
)
MARGIN = Field(
    "margin",
    replace(share(), least=0.0, most=0.5, above=False),
    "a rule is held when it is shown to hold within this: points for percentages, a share of the limit for others; "
    "without it, when it was measured to hold",
)
EXTEND = Field(
    "extend",
    duration(most_s=MAX_EXTEND_S, above=True),
    "by how much at most the fault phase goes on until every rule is decided; not at all without it",
)
MAX_TAKEN = Field(
    "max_taken",
    replace(share(), above=False),
    "share of the processors that others may take; with more, and nothing left over, what broke is inconclusive; "
    "10% without it",
)
VERDICT = Field("verdict", Table(ALPHA, MARGIN, EXTEND, MAX_TAKEN), "how sure the verdict has to be")
UP_TO = Field(
    "up_to", rate(most_per_s=MAX_RATE_PER_S), "no more load than this is tried; four times the load's rate without it"
)
HOLD = Field(
    "hold",
    duration(least_s=MIN_HOLD_S, most_s=MAX_PHASE_S),
    "for how long the load is held after healing; without it as long as the recovery phase, and 15s at least",
)
PRECISION = Field(
    "precision",
    replace(share(), least=0.05, most=9.0, above=False),
    "by how much, at most, the load that does not recover lies above the one that does; 10% without it",
)
TRIALS = Field("trials", Integer(least=1, most=10, unit="probes"), "how often each of these two is tried; 2 without it")
RECOVERS_UP_TO = Field(
    "recovers_up_to",
    rate(most_per_s=MAX_RATE_PER_S),
    "up to this load the system must recover by itself; without it, the search is for information",
)
METASTABILITY: Field[Section | bool] = Field(
    "metastability",
    SwitchOrParts(Table(UP_TO, HOLD, PRECISION, TRIALS, RECOVERS_UP_TO)),
    "search for the load from which the system no longer recovers by itself once the faults are healed: true, or how",
)
DISABLE = Field(
    "disable",
    ListOf(item=Text(what="the name of a protection", longest=60), least=1, most=50, unique=True),
    "protections of the target to switch off",
)
CHANGES: Field[Mapping[str, Scalar]] = Field(
    "set",
    MapOf(
        value=Setting(),
        least=1,
        most=20,
        pattern=r"[A-Za-z_0-9]+(\.[A-Za-z_0-9]+)*",
        pattern_help="a dotted key of this file, like faults.0.toxicity",
    ),
    "what else is different then, by dotted key, like 'faults.0.toxicity: 1'",
)
CONTROL = Field("control", Table(DISABLE, CHANGES), "how this same experiment must fail: without which protections")

EXPERIMENT = Table(
    TITLE,
    DESCRIPTION,
    TARGET,
    SEED,
    TAGS,
    PHASES,
    LOAD,
    SETTINGS,
    REPLICAS,
    SERVICE_WORKERS,
    FAULTS_LIST,
    CONTROL_GROUP,
    STEADY_STATE,
    MUST_BREAK,
    ABORT_WHEN,
    VERDICT,
    RECOVER_WITHIN,
    METASTABILITY,
    CONTROL,
)
