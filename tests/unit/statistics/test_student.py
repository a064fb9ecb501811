"""Student's t against scipy's, and against what everybody has in a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.statistics.student import SERIES_DF_MAX, t_cdf, t_quantile

DEGREES = st.integers(1, 4000)


@pytest.mark.parametrize(
    ("p", "df", "expected"), [(0.975, 1, 12.706), (0.99, 19, 2.539), (0.95, 9, 1.833), (0.995, 60, 2.660)]
)
def test_the_quantiles_of_the_printed_tables(p, df, expected):
    assert t_quantile(p, df) == pytest.approx(expected, abs=5e-4)


@given(p=st.floats(1e-5, 1 - 1e-5), df=DEGREES)
def test_quantiles_are_those_of_scipy(p, df):
    from scipy import stats

    assert t_quantile(p, df) == pytest.approx(float(stats.t.ppf(p, df)), rel=1e-6, abs=1e-9)


@given(t=st.floats(-50, 50), df=DEGREES)
def test_the_distribution_is_that_of_scipy(t, df):
    from scipy import stats

    assert t_cdf(t, df) == pytest.approx(float(stats.t.cdf(t, df)), abs=1e-12)


@given(p=st.floats(0.01, 0.99), df=st.integers(1, SERIES_DF_MAX))
def test_a_quantile_is_the_inverse_of_the_distribution(p, df):
    assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, abs=1e-10)


def test_the_sums_and_the_expansion_meet():
    assert t_quantile(0.999, SERIES_DF_MAX + 1) == pytest.approx(t_quantile(0.999, SERIES_DF_MAX), rel=2e-4)


@pytest.mark.parametrize(("p", "df"), [(0.0, 5), (1.0, 5), (0.5, 0), (float("nan"), 5)])
def test_what_has_no_quantile_is_refused(p, df):
    with pytest.raises(ValueError, match=r"probability|degree of freedom"):
        t_quantile(p, df)


def test_a_distribution_needs_a_degree_of_freedom():
    with pytest.raises(ValueError, match="1 degree of freedom or more, not 0"):
        t_cdf(1.0, 0)
