"""``chaos run`` on the playback target, for real: both proxies, Locust, faults, verdicts, exit codes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from chaos.proxy.server import find_toxiproxy
from tests.e2e.running import FAST, ROOT, Chaos, chaos, read_json

pytestmark = pytest.mark.e2e


@pytest.mark.alone
def test_the_oca_outage_on_the_embedded_proxy_holds_and_its_control_fails(tmp_path):
    document, journal = tmp_path / "verdict.json", tmp_path / "run.jsonl"
    code, output = chaos(
        tmp_path / "tmp", "run", "experiments/oca_outage.yaml", "--control", "--seed", "7", "--proxy", "embedded",
        "--json", str(document), "--journal", str(journal), *FAST,
    )  # fmt: skip
    assert code == 0, output
    verdict = read_json(document)
    assert verdict["outcome"] == "held"
    assert verdict["seed"] == 7
    assert verdict["backend"] == "embedded"
    assert verdict["control"]["outcome"] == "violated"
    assert [phase["name"] for phase in verdict["phases"]] == ["warm_up", "baseline", "fault", "recovery"]
    assert all(receipt["touched"] for receipt in verdict["receipts"])
    assert verdict["metrics"]["fault"]["playback_availability"] >= 0.995
    assert verdict["recovery_s"] is not None
    head, *events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert head == {"journal": "chaos", "version": 1}
    names = [event["event"] for event in events]
    assert names.count("run_started") == names.count("run_ended") == 2
    assert {"phase_started", "fault_applied", "fault_healed", "healed", "tick"} <= set(names)


@pytest.mark.alone
def test_a_cache_outage_on_the_real_proxy_holds_and_its_control_fails(tmp_path):
    """On the real Toxiproxy where it is here. All shipped experiments are run by ``make gate``, on the embedded one."""
    document = tmp_path / "verdict.json"
    code, output = chaos(
        tmp_path / "tmp", "run", "experiments/cache_outage.yaml", "--control", "--seed", "11",
        "--json", str(document), *FAST,
    )  # fmt: skip
    run = read_json(document)
    assert (run["outcome"], run["control"]["outcome"]) == ("held", "violated"), output
    wanted = "embedded" if find_toxiproxy() is None else "toxiproxy"
    assert {run["backend"].split()[0], run["control"]["backend"].split()[0]} == {wanted}
    assert code == 0


def test_a_fault_that_touches_nothing_makes_the_run_inconclusive(tmp_path):
    """One connection in a thousand, on edges with a handful of them: everything holds, and nothing was tested."""
    document = tmp_path / "verdict.json"
    code, output = chaos(
        tmp_path / "tmp", "run", "experiments/steering_latency.yaml", "--seed", "3", "--json", str(document), *FAST,
        "--set", "faults.0.toxicity=0.001",
    )  # fmt: skip
    assert code == 4, output
    verdict = read_json(document)
    assert [receipt["touched"] for receipt in verdict["receipts"]] == [False]
    assert "touched nothing" in verdict["reasons"][0]


def test_a_guard_aborts_and_heals_at_once(tmp_path):
    document = tmp_path / "verdict.json"
    code, output = chaos(
        tmp_path / "tmp", "run", "experiments/steering_latency.yaml", "--seed", "5", "--json", str(document), *FAST,
        "--set", 'abort_when=["play_delay_p50_s > 0.001s for 2s"]', "--set", "phases.fault=20s",
    )  # fmt: skip
    assert code == 1, output
    verdict = read_json(document)
    fault = next(phase for phase in verdict["phases"] if phase["name"] == "fault")
    assert fault["end_s"] - fault["start_s"] < 12, "the phase of 20 s ended early"
    assert "play_delay_p50_s" in " ".join(verdict["reasons"])


def test_a_wrong_file_lists_every_mistake_and_starts_nothing(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        Path("experiments/oca_outage.yaml")
        .read_text()
        .replace("service: oca", "service: ocas")
        .replace("baseline:", "base_line:")
        .replace("../", f"{ROOT}/")
    )
    (tmp_path / "tmp").mkdir()
    code, output = chaos(tmp_path / "tmp", "run", str(wrong))
    assert code == 2
    assert "did you mean 'oca'" in output
    assert "did you mean 'baseline'" in output
    assert all(f"{wrong}:" in line for line in output.splitlines() if "did you mean" in line)


@pytest.mark.parametrize("moment_s", [0.15, 0.4, 0.8])
def test_an_interruption_before_anything_is_started_is_130_too(tmp_path, moment_s):
    (tmp_path / "tmp").mkdir()
    with Chaos.start(tmp_path / "tmp", "run", "experiments/oca_outage.yaml", "--seed", "1", *FAST) as running:
        time.sleep(moment_s)
        running.process.terminate()
        code, output = running.wait(15)
        # Before Python has come to our first line, the kernel's own answer to SIGTERM is all there is.
        assert code in {130, -signal.SIGTERM}, output
        running.wait_until_nothing_is_left(within_s=2.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["target_starting", "fault_applied"])
def test_an_interruption_heals_and_closes_the_journal(tmp_path, number, moment):
    (tmp_path / "tmp").mkdir()
    journal = tmp_path / "run.jsonl"
    with Chaos.start(
        tmp_path / "tmp", "run", "experiments/oca_outage.yaml", "--seed", "1", "--journal", str(journal), *FAST,
        "--set", "phases.warm_up=1s", "--set", "phases.baseline=1s",
    ) as running:  # fmt: skip
        running.wait_for_event(moment, journal)
        running.process.send_signal(number)
        code, output = running.wait(15)
        assert code == 130, output
        running.wait_until_nothing_is_left(within_s=2.0)
    last = json.loads(journal.read_text().splitlines()[-1])
    assert (last["event"], last["outcome"]) == ("run_ended", "interrupted")


@pytest.mark.parametrize(("command", "named"), [("-m locust", "Locust"), ("toxiproxy-server", "proxy server")])
def test_what_carries_the_run_dying_is_an_environment_error(tmp_path, command, named):
    if command == "toxiproxy-server" and find_toxiproxy() is None:
        pytest.skip("no Toxiproxy here: chaos toxiproxy install")
    (tmp_path / "tmp").mkdir()
    with Chaos.start(tmp_path / "tmp", "run", "experiments/oca_outage.yaml", "--seed", "1", *FAST) as running:

        def victims() -> list[str]:
            return [line for line in running.processes_left() if command in line and "-version" not in line]

        victim = running.wait_until(victims, within_s=20)[0]
        time.sleep(2.5)
        os.kill(int(victim.split()[0]), signal.SIGKILL)
        code, output = running.wait(30)
        assert code == 3, output
        assert named in output
        running.wait_until_nothing_is_left(within_s=2.0)


def test_the_smallest_target_runs_with_an_ordinary_locustfile(tmp_path):
    """An application that knows nothing of the framework, described by a topology file of sixteen lines."""
    document = tmp_path / "verdict.json"
    code, output = chaos(
        tmp_path / "tmp", "run", "targets/hello/experiment.yaml", "--control", "--seed", "1", "--json", str(document),
        "--set", "phases.baseline=3s", "--set", "phases.fault=5s", "--set", "phases.recovery=4s",
        "--set", "verdict.max_taken=100%",
    )  # fmt: skip
    assert code == 0, output
    verdict = read_json(document)
    assert (verdict["outcome"], verdict["control"]["outcome"]) == ("held", "violated")
    assert verdict["metrics"]["fault"]["latency_p50_s"] >= 0.2, "the deadline of 0.2 s was waited for"
