"""How long the tests wait. A limit is there for what hangs; a slow machine, or a busy one, decides nothing.

Most tests wait for what happens, and that is all. Those that have a limit as well ask for it here.
"""

from __future__ import annotations

import time
from functools import cache

QUIET = 0.1  # seconds that the loop below takes on a core of our own


@cache
def slowness() -> float:
    """How many times longer than on a quiet core things take here, measured once; never less than 1."""
    begin = time.perf_counter()
    sum(range(6_000_000))
    return max(1.0, (time.perf_counter() - begin) / QUIET)


def patience(seconds: float) -> float:
    """The limit here for something that must be over within these seconds on a quiet machine."""
    return seconds * slowness()
