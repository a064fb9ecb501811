"""Rate limits by key, compared with a token bucket written the obvious way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.playback.rate_limit import RateLimiter


class Bucket:
    """A token bucket: fills with time, each request takes one token."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self.rate_per_s, self.burst, self.tokens, self.at_s = rate_per_s, burst, burst, 0.0

    def admits(self, now_s: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now_s - self.at_s) * self.rate_per_s)
        self.at_s = now_s
        if self.tokens < 1 - 1e-6:
            return False
        self.tokens -= 1
        return True


@given(
    rate_per_s=st.sampled_from([0.5, 1, 4, 8]),
    burst=st.integers(1, 6),
    pauses=st.lists(st.integers(0, 40), max_size=60),
)
def test_it_decides_as_a_token_bucket_does(rate_per_s, burst, pauses):
    limiter, bucket, now_s = RateLimiter(rate_per_s, burst), Bucket(rate_per_s, burst), 0.0
    for pause in pauses:
        now_s += pause / 16
        assert (limiter.wait_s(now_s, "me") == 0) == bucket.admits(now_s)


def test_the_wait_is_how_long_it_takes_until_there_may_be_one():
    limiter = RateLimiter(2.0, 1)
    assert limiter.wait_s(10.0, "me") == 0
    wait_s = limiter.wait_s(10.1, "me")
    assert wait_s == pytest.approx(0.4)
    assert limiter.wait_s(10.1 + wait_s + 1e-9, "me") == 0


def test_keys_do_not_know_of_each_other():
    limiter = RateLimiter(1.0, 1)
    assert [limiter.wait_s(0.0, key) > 0 for key in ("a", "b", "a", "b")] == [False, False, True, True]


def test_of_too_many_keys_the_one_that_asked_longest_ago_is_forgotten():
    limiter = RateLimiter(0.001, 1, keys_max=2)
    for key in ("a", "b", "c"):
        assert limiter.wait_s(0.0, key) == 0
    assert limiter.wait_s(0.0, "c") > 0
    assert limiter.wait_s(0.0, "b") > 0
    assert limiter.wait_s(0.0, "a") == 0


@pytest.mark.parametrize(("rate_per_s", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_limit_that_lets_nobody_through_is_a_mistake(rate_per_s, burst):
    with pytest.raises(ValueError, match="lets nobody through"):
        RateLimiter(rate_per_s, burst)
