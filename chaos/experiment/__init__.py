"""Experiments as data: model, parser, plan."""
