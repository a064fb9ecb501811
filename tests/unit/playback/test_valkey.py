"""How the Valkey servers are started: the cache forgets, the server of events does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from targets.playback.valkey import SETTINGS, arguments
from tests.unit.playback.little_target import config


def options(service):
    command = arguments(Path("valkey-server"), config(service, port=12345, data_dir="here"))
    assert command[0] == "valkey-server"
    return dict(zip(command[1::2], command[2::2], strict=True))


@pytest.mark.parametrize("service", SETTINGS)
def test_every_server_is_on_loopback_in_its_own_folder_and_limited(service):
    found = options(service)

    assert (found["--bind"], found["--port"], found["--dir"]) == ("127.0.0.1", "12345", "here")
    assert found["--maxmemory"].endswith("mb")


def test_the_cache_evicts_and_keeps_nothing_on_disk():
    assert options("cache")["--maxmemory-policy"] == "allkeys-lru"
    assert options("cache")["--appendonly"] == "no"


def test_the_server_of_events_refuses_when_full_and_answers_when_it_is_on_disk():
    found = options("events")

    assert found["--maxmemory-policy"] == "noeviction"
    assert (found["--appendonly"], found["--appendfsync"]) == ("yes", "always")


def test_another_service_is_no_valkey_server():
    with pytest.raises(ValueError, match="'store' is no Valkey server; cache, events are"):
        options("store")
