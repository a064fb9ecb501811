"""From which load on a system no longer recovers by itself once a trigger has passed: the search, and what it found.

Pure. ``search`` says at which rate to try next, ``probing`` makes the run for it and reads its verdict, ``finding``
says what all of them show. The runs themselves are made by ``chaos.searching``.
"""
