"""Faults: one small class each."""
