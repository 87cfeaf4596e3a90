"""Random numbers of the simulated survey: they depend on names only.

Every drawing has a key of its own (what it is, which seed, which piece of sky, which night). A later
night has another key, so the calendar goes on without changing its past.
"""

from __future__ import annotations

from astrid_assets.seeds import generator, uniform

__all__ = ["generator", "uniform"]
