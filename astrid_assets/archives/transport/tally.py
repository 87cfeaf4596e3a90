"""What a transport has done, for the metadata of materialisations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

__all__ = ["Counts", "Tally"]


@dataclass(frozen=True)
class Counts:
    """What was asked of one service."""

    requests: int = 0
    """Requests that were sent, with retries."""

    bytes: int = 0
    """Bytes that were received."""

    cache_hits: int = 0
    """Answers that were taken from the store without asking."""

    revalidations: int = 0
    """Old answers of the store that the service confirmed: unchanged, or the same again."""

    retries: int = 0
    """Tries after the first."""

    waited_s: float = 0.0
    """Seconds that were waited for a turn, after errors, and for pending answers."""

    oldest_mjd: float | None = None
    """When the oldest answer that was used was sent or confirmed, MJD (UTC)."""

    def __add__(self, other: Counts) -> Counts:
        """Return the sum; of the times the older."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)[:-1]}
        times = [t for t in (self.oldest_mjd, other.oldest_mjd) if t is not None]
        return Counts(**sums, oldest_mjd=min(times, default=None))


@dataclass(frozen=True)
class Tally:
    """What was asked, by service."""

    services: Mapping[str, Counts] = field(default_factory=dict)
    """Counts by name of the service."""

    @property
    def total(self) -> Counts:
        """Counts of all services together."""
        return sum(self.services.values(), Counts())

    def __add__(self, other: Tally) -> Tally:
        """Return the sum, service by service."""
        names = sorted({*self.services, *other.services})
        none = Counts()
        return Tally({n: self.services.get(n, none) + other.services.get(n, none) for n in names})

    def as_metadata(self) -> dict[str, object]:
        """Return the total as plain values, and the services as a table in ``services``."""
        return {**_plain(self.total), "services": {n: _plain(c) for n, c in sorted(self.services.items())}}


def _plain(counts: Counts) -> dict[str, object]:
    return {name: value for name, value in asdict(counts).items() if value is not None} | {
        "waited_s": round(counts.waited_s, 3)
    }
