"""``chaos up``: a target to play with, at the addresses that it prints, and nothing left when it is told to stop."""

from __future__ import annotations

import json
import re
import signal

import pytest
from toxiproxy import Toxiproxy

from tests.e2e.backend import fetch
from tests.e2e.running import Chaos

pytestmark = pytest.mark.e2e


def printed_until(running: Chaos, words: str) -> str:
    """Return what it prints, up to the line with these words."""
    printed = ""
    while words not in printed:
        line = running.process.stdout.readline()
        assert line, printed
        printed += line
    return printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_target_serves_at_the_addresses_printed_breaks_through_the_api_printed_and_is_gone_when_told(
    tmp_path, number
):
    (tmp_path / "tmp").mkdir()
    with Chaos.start(tmp_path / "tmp", "up", "targets/hello") as running:
        printed = printed_until(running, "Ctrl-C stops everything")
        page = re.search(r"browser -> front: front-1 (http://127\.0\.0\.1:\d+)", printed)
        api = re.search(r"Toxiproxy's API at http://(127\.0\.0\.1):(\d+)", printed)
        assert page is not None, printed
        assert api is not None, printed
        assert fetch(page[1]) == b"<h1>hello, world</h1>"

        toxiproxy = Toxiproxy()
        toxiproxy.update_api_consumer(api[1], int(api[2]))
        assert sorted(toxiproxy.proxies()) == ["browser.front-1", "front-1.greetings-1"]
        toxiproxy.get_proxy("front-1.greetings-1").disable()
        assert fetch(page[1]) == b"<h1>hi, world</h1>"

        running.process.send_signal(number)
        code, output = running.wait(20)
        assert (code, output) == (0, "stopped\n")
        running.wait_until_nothing_is_left(within_s=2.0)


def test_a_protection_that_is_switched_off_is_off_and_one_that_there_is_not_is_refused(tmp_path):
    (tmp_path / "tmp").mkdir()
    with Chaos.start(
        tmp_path / "tmp", "up", "targets/hello", "--disable", "isolation", "--proxy", "embedded"
    ) as running:
        printed = printed_until(running, "Ctrl-C stops everything")
        page = re.search(r"front-1 (http://127\.0\.0\.1:\d+)", printed)
        api = re.search(r"API at (http://127\.0\.0\.1:\d+)", printed)
        assert page is not None, printed
        assert api is not None, printed
        fetch(f"{api[1]}/proxies/front-1.greetings-1", json.dumps({"enabled": False}).encode())
        assert fetch(page[1]) is None, "without isolation the page needs its word"
    with Chaos.start(tmp_path / "tmp", "up", "targets/hello", "--disable", "insulation") as running:
        code, output = running.wait(20)
        assert code == 2
        assert "--disable insulation: hello has no such protection; it has: isolation" in output
