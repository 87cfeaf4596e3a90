"""Circles that are too rich or too wide for one answer, and the answers of their parts as one.

Services cut answers off at a number of rows, most of them without a word. An answer that may have been
cut is never used: its circle is asked for again in seven that are half as wide and cover it. What was
sent for the parts is kept together, as it came, in one tar archive.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from math import asin, atan2, cos, degrees, pi, radians, sin
from typing import TYPE_CHECKING

import numpy as np

from astrid_assets.archives.protocol import Cone
from astrid_assets.errors import BadAnswerError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ask_whole", "covering", "inside", "is_pack", "join_parts", "pack", "unpack"]

_SMALLEST = 10.0 / 3600.0
"""Degrees: a circle that is still too rich at this radius is a fault of the service, not of the sky."""

_OVERLAP = 1.001
"""By how much the covering circles are larger than they need be: rounding at the edges."""

_WHERE = "cone.json"
"""Member of a pack that holds the circle that was asked for."""


def covering(cone: Cone) -> list[Cone]:
    """Return seven circles of half the radius that cover a circle: one in the middle, six around it.

    Their centres lie at sqrt(3)/2 of the radius, measured along great circles; for the radii of fields
    (at most 5 degrees) the sphere differs from the plane by less than the overlap.
    """
    half = 0.5 * cone.radius * _OVERLAP
    away = 0.75**0.5 * cone.radius
    centres = [(cone.ra, cone.dec), *(_offset(cone, away, k * pi / 3.0) for k in range(6))]
    return [replace(cone, ra=round(ra, 8), dec=round(dec, 8), radius=half) for ra, dec in centres]


def _offset(cone: Cone, distance: float, angle: float) -> tuple[float, float]:
    """Return the position at a distance (degrees) and an angle from north through east (radians)."""
    dec, away = radians(cone.dec), radians(distance)
    x = cos(away) * cos(dec) - sin(away) * cos(angle) * sin(dec)
    z = cos(away) * sin(dec) + sin(away) * cos(angle) * cos(dec)
    east = atan2(sin(away) * sin(angle), x)
    return (cone.ra + degrees(east)) % 360.0, degrees(asin(max(-1.0, min(1.0, z))))


def inside(ra: np.ndarray, dec: np.ndarray, cone: Cone) -> np.ndarray:
    """Return which positions (degrees) lie in a circle."""
    a, d, d0 = np.radians(ra - cone.ra), np.radians(dec), np.radians(cone.dec)
    haversine = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin(a / 2) ** 2
    return haversine <= np.sin(np.radians(cone.radius) / 2) ** 2


def ask_whole(
    ask: Callable[[Cone], bytes],
    cone: Cone,
    *,
    is_cut: Callable[[bytes], bool],
    largest: float | None = None,
) -> bytes:
    """Return the answer about a circle, asked for in parts where one answer cannot hold it.

    Parameters
    ----------
    ask
        Asks a service about a circle.

    cone
        The circle.

    is_cut
        Whether an answer may lack rows.

    largest
        Largest radius that the service takes, degrees; None for any.

    Returns
    -------
    bytes
        The answer as it was sent, or a pack of the answers about the parts.

    Raises
    ------
    BadAnswerError
        Even the smallest circle is cut off.
    """
    parts = list(_parts(ask, cone, is_cut, largest))
    return parts[0] if len(parts) == 1 else pack(cone, parts)


def _parts(
    ask: Callable[[Cone], bytes], cone: Cone, is_cut: Callable[[bytes], bool], largest: float | None
) -> Iterator[bytes]:
    if largest is None or cone.radius <= largest:
        content = ask(cone)
        if not is_cut(content):
            yield content
            return
        if cone.radius < _SMALLEST:
            msg = f"cut off even within {cone.radius * 3600:.1f} arcsec of {cone.ra:.6f} {cone.dec:+.6f}"
            raise BadAnswerError(msg)
    for part in covering(cone):
        yield from _parts(ask, part, is_cut, largest)


def pack(cone: Cone, parts: Sequence[bytes]) -> bytes:
    """Return answers about parts of a circle as one tar archive; the same answers give the same bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        where = json.dumps(asdict(cone), sort_keys=True).encode()
        for name, content in ((_WHERE, where), *((f"{i:05d}", part) for i, part in enumerate(parts))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def is_pack(content: bytes) -> bool:
    """Tell whether an answer is a pack of several."""
    return content[: len(_WHERE)] == _WHERE.encode() and content[257:262] == b"ustar"


def unpack(content: bytes) -> tuple[Cone, list[bytes]]:
    """Return the circle and the answers of a pack.

    Raises
    ------
    BadAnswerError
        The pack is cut off.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            where, *parts = [archive.extractfile(member).read() for member in archive]  # type: ignore[union-attr]
        return Cone(**json.loads(where)), parts
    except (tarfile.TarError, ValueError, TypeError, AttributeError, EOFError) as error:
        raise BadAnswerError(f"a pack of answers is broken: {error}") from error


def join_parts(parse: Callable[[bytes], pa.Table], content: bytes) -> pa.Table:
    """Return the rows of an answer or of a pack: within the circle that was asked for, each object once."""
    if not is_pack(content):
        return _distinct(parse(content))
    import pyarrow as pa

    cone, parts = unpack(content)
    table = pa.concat_tables([parse(part) for part in parts])
    ra, dec = (table.column(name).to_numpy() for name in ("ra", "dec"))
    return _distinct(table.filter(pa.array(inside(ra, dec, cone))))


def _distinct(table: pa.Table) -> pa.Table:
    """Return a table with each object once; two places under one name are two objects."""
    names = (table.column(name).to_pylist() for name in ("object_id", "ra", "dec"))
    first = {key: row for row, key in reversed(list(enumerate(zip(*names, strict=True))))}
    return table if len(first) == table.num_rows else table.take(sorted(first.values()))
