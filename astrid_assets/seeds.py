"""Random numbers that depend on names only: on no order of calls, no process, no machine.

Every drawing has a key of its own (what it is, which seed, which exposure or piece of sky). Another
object has another key, so that what is added later changes nothing of what was drawn before.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["generator", "uniform"]

Key = str | int


def _digest(keys: tuple[Key, ...]) -> int:
    text = "/".join(str(key) for key in keys)
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(*keys: Key) -> np.random.Generator:
    """Return the random generator of a key.

    Parameters
    ----------
    *keys
        Names and whole numbers; never floating-point numbers, whose text may differ.
    """
    return np.random.Generator(np.random.PCG64(_digest(keys)))


def uniform(*keys: Key) -> float:
    """Return one number in [0, 1) that belongs to a key; much cheaper than a generator."""
    return (_digest(keys) >> 75) / 2.0**53
