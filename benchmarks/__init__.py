"""Measurements, printed as tables by ``make bench``; ratios within one run count, absolute figures do not."""
