"""What a few seconds of measurements prove: intervals, evidence, and how much longer it would take. Pure, stdlib only.

The unit of observation is a *whole second*. Failures come in bursts, so that a hundred failed plays in one second are
one observation and not a hundred; a method that counts requests cries wolf in a third of its runs (`docs/verdicts.md`).
"""
