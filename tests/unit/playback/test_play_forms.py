"""The bodies of a play and of a grant."""

from __future__ import annotations

import json

import pytest

from targets.playback.ladder import Device
from targets.playback.play_forms import GrantForm, PlayForm


def test_a_play_is_watched_on_a_tv_unless_it_says_otherwise():
    assert PlayForm.from_body(b'{"title": "title-0001"}').device is Device.TV
    assert PlayForm.from_body(b'{"title": "title-0001", "device": "phone"}').device is Device.PHONE


def test_a_grant_comes_back_from_its_body_as_it_was():
    form = GrantForm(play=PlayForm(title="title-0001", device=Device.TABLET), stream="s-1")

    assert GrantForm.from_body(json.dumps(form.to_json()).encode()) == form


@pytest.mark.parametrize("body", [b"", b"no", b"[" * 10_000, b"[]", b"{}", b'{"title": 7}'])
def test_what_is_no_play_is_refused(body):
    for form in (PlayForm, GrantForm):
        with pytest.raises(ValueError, match="the body"):
            form.from_body(body)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device is 'radio'; there are phone"):
        PlayForm.from_body(b'{"title": "title-0001", "device": "radio"}')


@pytest.mark.parametrize("stream", [None, 7, "", "with space", "x" * 65])
def test_a_grant_needs_the_name_of_a_stream(stream):
    with pytest.raises(ValueError, match="stream must name the stream"):
        GrantForm.from_body(json.dumps({"title": "title-0001", "stream": stream}).encode())
