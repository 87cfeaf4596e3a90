"""The alerts that the stand-in knows: recorded packets, and those of the simulated survey.

Around a position without recorded packets the survey is simulated, with the options of a field that
states none: the same sky as that of the image archives. Only the nights of a month are made for a
question, for a light curve of years would take minutes. What was made once is known by its name after.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from pathlib import Path
from typing import Any

__all__ = ["MEMORY_DAYS", "Alert", "AlertSky", "read_folder"]

MEMORY_DAYS = 30
"""Days before the end of a question in which the simulated survey is made."""

_MJD_ZERO = 2400000.5


@dataclass(frozen=True)
class Alert:
    """One alert."""

    content: bytes
    """The packet, a file of its own."""

    record: Mapping[str, Any]
    """The packet, decoded."""

    @property
    def object_id(self) -> str:
        """ZTF's name of the object."""
        return str(self.record["objectId"])

    @property
    def candid(self) -> int:
        """Number of the detection."""
        return int(self.record["candid"])

    @property
    def candidate(self) -> Mapping[str, Any]:
        """The fields of the detection."""
        fields: Mapping[str, Any] = self.record["candidate"]
        return fields

    @property
    def mjd(self) -> float:
        """Begin of the exposure, MJD (UTC)."""
        return float(self.candidate["jd"]) - _MJD_ZERO

    @property
    def place(self) -> tuple[float, float]:
        """Right ascension and declination, ICRS degrees."""
        return float(self.candidate["ra"]), float(self.candidate["dec"])


def read_folder(folder: Path) -> list[Alert]:
    """Return the whole packets below a folder, in order of their names."""
    import fastavro

    contents = [path.read_bytes() for path in sorted(folder.rglob("*.avro"))]
    return [Alert(content, next(iter(fastavro.reader(io.BytesIO(content))))) for content in contents]


class AlertSky:
    """All alerts, by place, object and night.

    Parameters
    ----------
    recorded
        Recorded alerts.

    tiles
        Positions (ra, dec) that the survey watches from the start, ICRS degrees.
    """

    def __init__(self, recorded: Iterable[Alert] = (), tiles: Sequence[tuple[float, float]] = ()) -> None:
        self._recorded = tuple(recorded)
        self._tiles = tuple(tiles)
        self._made: dict[tuple[float, float, int], list[Alert]] = {}
        self._lock = threading.Lock()

    @property
    def recorded_nights(self) -> list[int]:
        """Days with recorded alerts, MJD."""
        return sorted({floor(alert.mjd) for alert in self._recorded})

    def around(self, ra: float, dec: float, radius: float, *, start: float, end: float) -> list[Alert]:
        """Return the alerts in a circle and a span of time.

        Parameters
        ----------
        ra, dec
            Centre, ICRS degrees; simulated alerts are those of a survey that points there.

        radius
            Degrees.

        start, end
            MJD (UTC).
        """
        alerts = [a for a in self._recorded if _apart(a, ra, dec) <= radius]
        if not alerts:
            first = max(start, end - MEMORY_DAYS)
            nights = range(floor(first), ceil(end))
            alerts = [a for night in nights for a in self._simulated(ra, dec, night)]
        return [a for a in alerts if start <= a.mjd < end and _apart(a, ra, dec) <= radius]

    def on(self, night: int) -> list[Alert]:
        """Return all alerts of a night: recorded ones, or those of the tiles where none are recorded."""
        alerts = [a for a in self._recorded if floor(a.mjd) == night]
        if self._recorded:
            return alerts
        return [a for ra, dec in self._tiles for a in self._simulated(ra, dec, night)]

    def of(self, object_id: str) -> list[Alert]:
        """Return the known alerts of an object, in order of time."""
        return sorted((a for a in self._known() if a.object_id == object_id), key=lambda a: a.mjd)

    def alert(self, candid: int) -> Alert | None:
        """Return the alert of this number, if it is known."""
        return next((a for a in self._known() if a.candid == candid), None)

    def _known(self) -> list[Alert]:
        with self._lock:
            made = [alert for alerts in self._made.values() for alert in alerts]
        return [*self._recorded, *made]

    def _simulated(self, ra: float, dec: float, night: int) -> list[Alert]:
        key = round(ra % 360.0, 6), round(dec, 6), night
        with self._lock:  # also held while they are made: lest two threads make the same
            if key not in self._made:
                self._made[key] = _simulate(*key)
            return self._made[key]


def _simulate(ra: float, dec: float, night: int) -> list[Alert]:
    """Return what the simulated survey sends about a position in a night."""
    import fastavro

    from astrid_assets.archives.protocol import Cone
    from astrid_assets.archives.simulated.alerts import packets
    from astrid_assets.archives.simulated.cadence import visits
    from astrid_assets.archives.simulated.survey import BANDS
    from astrid_assets.archives.simulated.tile import Tile
    from astrid_assets.fields import SimulatedOptions

    options = SimulatedOptions()
    ny, nx = options.shape
    tile = Tile(options.seed, ra, dec, ny, nx, options.dirt, options.corrupt_rate, options.transient_rate)
    seen = [visit for band in BANDS for visit in visits(tile, band, night, night + 1)]
    content = packets(tile, seen, Cone(ra, dec, 90.0)) if seen else b""
    records = list(fastavro.reader(io.BytesIO(content))) if content else []
    return [Alert(_file_of(record), record) for record in records]


def _file_of(record: Mapping[str, Any]) -> bytes:
    import fastavro

    stream = io.BytesIO()
    fastavro.writer(stream, _schema(), [record], codec="null", sync_marker=b"simulated packet")
    return stream.getvalue()


@lru_cache(maxsize=1)
def _schema() -> Any:
    import fastavro

    from astrid_assets.archives.simulated.alert_schema import ALERT_SCHEMA

    return fastavro.parse_schema(ALERT_SCHEMA)


def _apart(alert: Alert, ra: float, dec: float) -> float:
    from astrid_assets.fields import separation

    return separation(ra, dec, *alert.place)
