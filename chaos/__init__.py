"""chaos: know whether your system survives, before your users do.

The package is made of layers, and imports point down (``tests/test_architecture.py`` enforces it):
see ``ARCHITECTURE.md`` for the map. ``chaos.resilience`` can be used alone.
"""

__version__ = "0.1.0"
