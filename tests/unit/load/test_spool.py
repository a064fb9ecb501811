"""Recorder and follower: samples on their way from Locust to the runner, and the order on its way to Locust."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos.errors import EnvironmentFailure
from chaos.groups import Group
from chaos.load.follower import Follower
from chaos.load.order import LoadOrder, read_moment, write_moment
from chaos.load.recorder import Recorder
from chaos.samples import Sample, SampleOutcome
from chaos.topology.model import CalledInstance, InstanceConfig


def spool(folder: Path) -> Path:
    return folder / f"{os.getpid()}.samples"


def test_what_is_recorded_is_read_once(tmp_path):
    follower = Follower(tmp_path)
    with Recorder(tmp_path) as recorder:
        recorder.record("play", 1.0, 1.5, SampleOutcome.FALLBACK, {"play_delay_s": 0.5})
        assert follower.read() == []
        recorder.flush()
        expected = Sample(
            kind="play", scheduled_s=1.0, ended_s=1.5, outcome=SampleOutcome.FALLBACK, values={"play_delay_s": 0.5}
        )
        assert follower.read() == [expected]
        assert follower.read() == []


def test_a_sample_says_whose_group_it_was(tmp_path):
    with Recorder(tmp_path) as recorder:
        for group in (*Group, None):
            recorder.record("play", 1.0, 1.5, SampleOutcome.OK, {}, group)
    written = spool(tmp_path).read_text()
    read = Follower(tmp_path).read()
    assert [one.group for one in read] == [Group.EXPERIMENT, Group.CONTROL, None]
    assert written == "".join(one.to_line() for one in read)
    assert written.splitlines()[1:] == ['["play",1.0,1.5,"ok",{},"control"]', '["play",1.0,1.5,"ok",{}]']


@pytest.mark.parametrize("rest", ['"nobody"', "1", '"control","control"'])
def test_a_sample_of_a_group_that_there_is_not_is_none(rest):
    with pytest.raises(ValueError, match=r"not a"):
        Sample.from_line(f'["play",1.0,1.5,"ok",{{}},{rest}]')


@pytest.mark.parametrize("value", ["null", '"many"', "[1.0]"])
def test_a_value_that_is_no_number_is_no_sample(value):
    with pytest.raises(ValueError, match=r"not a sample"):
        Sample.from_line(f'["play",1.0,1.5,"ok",{{"size":{value}}}]')


def test_closing_writes_what_is_left_and_drops_what_comes_after(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.record("play", 1.0, 2.0, SampleOutcome.OK)
    recorder.close()
    recorder.record("play", 2.0, 3.0, SampleOutcome.OK)
    recorder.close()
    assert len(Follower(tmp_path).read()) == 1


def test_a_full_buffer_is_written_without_being_asked(tmp_path):
    with Recorder(tmp_path) as recorder:
        for number in range(5000):
            recorder.record("play", float(number), float(number), SampleOutcome.OK)
        assert len(Follower(tmp_path).read()) == 4000


def test_a_torn_last_line_waits_for_its_rest(tmp_path):
    line = Sample(kind="play", scheduled_s=1.0, ended_s=2.0, outcome=SampleOutcome.OK).to_line().encode()
    follower = Follower(tmp_path)
    with spool(tmp_path).open("ab", buffering=0) as file:
        file.write(line + line[:10])
        assert len(follower.read()) == 1
        assert follower.read() == []
        file.write(line[10:])
        assert len(follower.read()) == 1


def test_the_files_of_all_workers_are_read(tmp_path):
    line = Sample(kind="play", scheduled_s=1.0, ended_s=2.0, outcome=SampleOutcome.OK).to_line()
    follower = Follower(tmp_path)
    (tmp_path / "1.samples").write_text(line)
    assert len(follower.read()) == 1
    (tmp_path / "2.samples").write_text(line * 2)
    assert len(follower.read()) == 2


def test_a_line_that_is_no_sample_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "1.samples").write_text("hello\n")
    with pytest.raises(EnvironmentFailure, match=r"1\.samples"):
        Follower(tmp_path).read()


def order(folder: Path) -> LoadOrder:
    client = InstanceConfig(
        service="viewers",
        instance="viewers",
        index=1,
        host="127.0.0.1",
        port=0,
        labels={},
        calls={"elb": (CalledInstance(instance="elb-1", address="127.0.0.1:2", labels={}),)},
        reached_by={},
        settings={"video_scale": 60},
        disabled=("client_retry",),
        seed=3,
        data_dir="",
    )
    return LoadOrder(
        folder=folder, seed=3, rate_per_s=2.5, duration_s=10.0, processes=2, client=client, settings={"users": 5}
    )


def test_an_order_survives_the_journey(tmp_path):
    assert LoadOrder.from_json(order(tmp_path).to_json()) == order(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folder": "/tmp"}'])
def test_what_is_no_order_is_refused(text):
    with pytest.raises(ValueError, match="CHAOS_LOAD"):
        LoadOrder.from_json(text)


def test_a_moment_is_there_or_it_is_not(tmp_path):
    assert read_moment(tmp_path / "start") is None
    write_moment(tmp_path / "start", 1234.000001)
    assert read_moment(tmp_path / "start") == 1234.000001
