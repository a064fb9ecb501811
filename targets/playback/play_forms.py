"""What is asked for when somebody plays: the bodies of ``POST /play`` and ``POST /grants``, read and checked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from targets.playback.ladder import Device, device_of

STREAM_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
"""Names of streams, which are the names of sessions as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayForm:
    """What a client asks for. Whether there is such a title is for others to say."""

    title: str
    device: Device

    @classmethod
    def from_body(cls, body: bytes) -> PlayForm:
        """Read a request's body. Raises ValueError, which says what is wrong and what is allowed."""
        return cls.from_json(_parsed(body))

    @classmethod
    def from_json(cls, data: object) -> PlayForm:
        """Read a body that is parsed. Raises ValueError."""
        match data:
            case {"title": str(title), **more}:
                return cls(title=title, device=device_of(more.get("device", Device.TV)))
            case _:
                raise ValueError('the body must be {"title": "title-0001"}, with "device" if it is no tv')


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantForm:
    """What the Play API asks for: a play, as this stream of the subscriber's account."""

    play: PlayForm
    stream: str

    @classmethod
    def from_body(cls, body: bytes) -> GrantForm:
        """Read a request's body. Raises ValueError, which says what is wrong and what is allowed."""
        data = _parsed(body)
        play = PlayForm.from_json(data)
        match data:
            case {"stream": str(stream)} if STREAM_NAME.fullmatch(stream):
                return cls(play=play, stream=stream)
            case _:
                raise ValueError("stream must name the stream: 1 to 64 letters, digits or any of _-")

    def to_json(self) -> dict[str, str]:
        """Return the body."""
        return {"title": self.play.title, "device": self.play.device, "stream": self.stream}


def _parsed(body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is no JSON: {error}") from error
    return parsed
