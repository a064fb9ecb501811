"""The JSON Schemas of experiment and topology files, for editors: made from the tables that the parsers read with."""

from __future__ import annotations

from chaos.experiment.tables import EXPERIMENT, FAULTS_LIST, LOAD, SURGES
from chaos.fields import Schema, Table
from chaos.topology.tables import TOPOLOGY

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def experiment_schema() -> Schema:
    """Return the JSON Schema of an experiment file."""
    surge = {"required": [SURGES.key], "properties": {SURGES.key: {"minItems": 1}}}
    something = [{"required": [FAULTS_LIST.key]}, {"properties": {LOAD.key: surge}}]
    return {**_document(EXPERIMENT, "chaos experiment"), "anyOf": something}


def topology_schema() -> Schema:
    """Return the JSON Schema of a topology file."""
    return _document(TOPOLOGY, "chaos topology")


def _document(table: Table, title: str) -> Schema:
    return {"$schema": DIALECT, "title": title, **table.schema()}
