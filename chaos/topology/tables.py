"""The keys of a topology file, as tables: what the parser reads and the schema describes."""

from __future__ import annotations

from collections.abc import Mapping

from chaos import yamlfile
from chaos.fields import Either, Field, ListOf, MapOf, Schema, Table, Where
from chaos.kinds import Choice, Integer, Label, Number, Setting, Switch, Text, duration
from chaos.topology.model import Measure, Scalar, Unit
from chaos.yamlfile import Node

MAX_INSTANCES = 200
"""Processes of one target."""
MAX_EDGES = 2_000
"""Proxies of one target."""
MAX_WORKERS = 16
"""Processes of one instance."""
NAME_PATTERN = r"[a-z][a-z0-9_]{0,39}"
"""Names of services and clients: they become part of names like ``play_api-1.store-1``."""

_NAME_HELP = "a name of small letters, digits and _, at most 40"
_LABELS = MapOf(value=Label(), most=20)
_URL_PATH = Text(what="an HTTP path that begins with /, like /healthz", pattern=r"/\S{0,200}", longest=201)


class Count:
    """A number of instances without labels, read as that many empty sets of labels."""

    _number = Integer(least=1, most=MAX_INSTANCES, unit="instances")

    def read(self, node: Node, where: Where) -> tuple[Mapping[str, str], ...] | None:
        """Return one empty set of labels for each instance."""
        if isinstance(node, yamlfile.Mapping):
            where.report(node, "this is one set of labels; write a number, or a list with the labels of each instance")
            return None
        number = self._number.read(node, where)
        return None if number is None else tuple({} for _ in range(number))

    def schema(self) -> Schema:
        """Return the JSON Schema of the number."""
        return self._number.schema()


HEALTH_HTTP = Field("http", _URL_PATH, "path that answers 200 when the instance serves")
HEALTH_TCP = Field("tcp", Switch(only=True), "the instance serves when its port accepts a connection")
HEALTH_TIMEOUT = Field("timeout", duration(most_s=300, above=True), "how long it may take to get healthy")
HEALTH = Table(HEALTH_HTTP, HEALTH_TCP, HEALTH_TIMEOUT)

PYTHON = Field(
    "python",
    Text(what="'module:function', like shop.api:main", pattern=r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", longest=200),
    "a function, as module:function, that serves until SIGTERM; it is called with an InstanceConfig",
)
COMMAND = Field(
    "command",
    ListOf(item=Label(), least=1, most=100),
    "the command and its arguments, as a list; {port}, {host}, {instance}, {service}, {data_dir}, {folder}, "
    "{python}, {disabled}, {workers}, {calls[other]} and {settings[name]} are replaced",
)
INSTANCES = Field(
    "instances",
    Either(Count(), ListOf(item=_LABELS, least=1, most=MAX_INSTANCES)),
    "how many instances, or a list with the labels of each",
)
WORKERS = Field(
    "workers",
    Integer(least=1, most=MAX_WORKERS, unit="processes"),
    "how many processes serve the port of each instance together; 1 without it",
)
REPLICAS_LEAST = Field(
    "replicas_least", Integer(least=1, most=MAX_INSTANCES, unit="instances"), "fewest instances; 1 without it"
)
REPLICAS_MOST = Field(
    "replicas_most",
    Integer(least=1, most=MAX_INSTANCES, unit="instances"),
    "most instances; without it, as many as a target may have",
)
WORKERS_MOST = Field(
    "workers_most",
    Integer(least=1, most=MAX_WORKERS, unit="processes"),
    "most workers of an instance; without it, those that it has: 1 where the service's memory is that of one process",
)
SCALING = Field(
    "scaling",
    Table(REPLICAS_LEAST, REPLICAS_MOST, WORKERS_MOST),
    "how far experiments and --set may scale it, with replicas.<service> and workers.<service>",
)
CALLS = Field(
    "calls",
    ListOf(item=Text(what="the name of a service"), most=100, unique=True),
    "the services that it calls, by name; every one of their instances gets a proxy of this caller's own",
)
HEALTH_OF = Field("health", HEALTH, "how to know that an instance serves; without it, its port must accept connections")
ISOLATION = Field("isolation", _URL_PATH, "path that answers with the states of the circuit breakers, as JSON")
PORT = Field(
    "port", Integer(least=1024, most=65535), "port of the first instance, the next one's is one higher; else: free ones"
)
ENVIRONMENT = Field("environment", MapOf(value=Label(), most=100), "variables of the processes' environment")
STOP_TIMEOUT = Field("stop_timeout", duration(most_s=60, above=True), "time from SIGTERM until SIGKILL")
SERVICE = Table(
    PYTHON, COMMAND, INSTANCES, WORKERS, SCALING, CALLS, HEALTH_OF, ISOLATION, PORT, ENVIRONMENT, STOP_TIMEOUT
)

CLIENT_CALLS = Field(CALLS.key, CALLS.kind, CALLS.help, required=True)
CLIENT = Table(CLIENT_CALLS)

METRIC_TITLE = Field("title", Text(longest=100), "what people call it; shown in reports", required=True)
MEASURE = Field("measure", Choice(Measure), "how it is computed from the samples", required=True)
OF = Field("of", Text(longest=60), "the kind of samples that it is computed from", required=True)
FIELD = Field("field", Text(longest=60), "the value of the samples that it is computed from")
PER = Field("per", ListOf(item=Text(longest=60), least=1, most=10, unique=True), "the values that it is divided by")
QUANTILE = Field("quantile", Number(least=0.0, most=1.0), "which quantile: 0.99 for the value that 99 % stay below")
UNIT = Field("unit", Choice(Unit), "the unit that people read and write: %, s, /s or nothing ('')")
DETAIL = Field("detail", Switch(), "true: shown only where an experiment has a rule about it; --json has it always")
METRIC = Table(METRIC_TITLE, MEASURE, OF, FIELD, PER, QUANTILE, UNIT, DETAIL)

NAME = Field("name", Text(what="a short name", longest=60), "name of the target", required=True)
PRELOAD = Field(
    "preload",
    Text(what="a Python module", pattern=r"[A-Za-z_][\w.]*", longest=200),
    "a Python module to import once, before instances are forked from it",
)
SETTINGS: Field[Mapping[str, Scalar]] = Field(
    "settings", MapOf(value=Setting()), "what every instance and client is told; experiments override them"
)
CLIENTS = Field(
    "clients",
    MapOf(value=CLIENT, pattern=NAME_PATTERN, pattern_help=_NAME_HELP, least=1, most=10),
    "callers outside the target: the load",
    required=True,
)
SERVICES = Field(
    "services",
    MapOf(value=SERVICE, pattern=NAME_PATTERN, pattern_help=_NAME_HELP, least=1, most=100),
    "the services of the target",
    required=True,
)
PROTECTIONS = Field(
    "protections",
    MapOf(value=Text(longest=500), most=50),
    "each protection that a control may switch off, with a sentence on what it does",
)
METRICS = Field(
    "metrics",
    MapOf(value=METRIC, most=50),
    "the figures of the steady state; without any, those of plain requests: availability, requests_per_s, "
    "latency_p50_s, latency_p99_s, fallback_share",
)
TOPOLOGY = Table(NAME, PRELOAD, SETTINGS, CLIENTS, SERVICES, PROTECTIONS, METRICS)
