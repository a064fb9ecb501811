"""Real Valkey servers, shared by the tests of a file; OCAs in a hurry; cheap hashes."""

from __future__ import annotations

import pytest

from targets.playback.passwords import HashSettings
from tests.unit.playback.little_target import running_valkey
from tests.unit.playback.pipeline_fixtures import client


@pytest.fixture(scope="module")
def events_server():
    """A real server of events."""
    with running_valkey("events") as address:
        yield address


@pytest.fixture(scope="module")
def servers(events_server):
    """Real servers: of events, and of the cache's two zones."""
    with running_valkey() as a, running_valkey() as b:
        yield events_server, a, b


@pytest.fixture
def valkeys(servers):
    """The servers, empty."""
    for address in servers:
        with client(address) as valkey:
            valkey.flushall()
    return servers


@pytest.fixture
def hasty(monkeypatch):
    """OCAs that report, look for titles, and try again after a failure, several times a second."""
    monkeypatch.setattr("targets.playback.oca.REPORT_EVERY_S", 0.2)
    monkeypatch.setattr("targets.playback.oca.FILL_EVERY_S", 0.05)
    monkeypatch.setattr("targets.playback.fill._PAUSE_FIRST_S", 0.1)


@pytest.fixture
def cheap_hashes(monkeypatch):
    """Password hashes that cost next to nothing, and billing that asks for work several times a second."""
    monkeypatch.setattr("targets.playback.signup_api.HashSettings", lambda: HashSettings(memory_kib=64, passes=1))
    monkeypatch.setattr("targets.playback.passwords.INTERVAL_S", 0.002)
    monkeypatch.setattr("targets.playback.billing.ASK_EVERY_S", 0.1)
