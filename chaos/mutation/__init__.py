"""Mutation of the system under test: one protection is taken away at a time, and some experiment has to notice.

The experiments are the tests here, so this asks of them what mutation testing asks of unit tests: would they fail if
the system were worse? A mutant is made by configuration (what a control may switch off), never by editing code.
"""
