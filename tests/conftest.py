"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No limit on the time of a single example: it would be an assertion about the machine that the tests are run on (the
# first example of a test also pays for what it imports). How long a whole test may take is in pyproject.toml.
settings.register_profile("chaos", deadline=None)
settings.load_profile("chaos")
