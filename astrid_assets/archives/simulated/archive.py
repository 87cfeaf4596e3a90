"""`SimulatedArchive`: the simulated survey behind the protocol of all archives.

A locator holds everything that makes an exposure, so that any process can fetch any exposure in
any order and gets the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from astrid_assets.archives.protocol import Cone, Download, Exposure, Offer
from astrid_assets.archives.simulated import alerts, catalogues, cutouts, products
from astrid_assets.archives.simulated.cadence import Visit, visit_on, visits
from astrid_assets.archives.simulated.conditions import conditions
from astrid_assets.archives.simulated.exposure import expose
from astrid_assets.archives.simulated.grid import footprint, reference_cards, science_cards
from astrid_assets.archives.simulated.optics import fwhm
from astrid_assets.archives.simulated.reference import choose_frames, stack
from astrid_assets.archives.simulated.survey import BANDS, EXPTIME, PIXEL_SCALE, SURVEY_START
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.fields import Field, Window

__all__ = ["SimulatedArchive"]

_VERSION = "1"
"""Calibration of the survey; changes when the simulation changes its pixels."""

_REFERENCE_YEAR = 365.0
"""Days before the end of an open reference window from which frames are taken."""

_SCHEME = "simulated"


class SimulatedArchive:
    """The simulated survey.

    Parameters
    ----------
    clock
        The present as MJD (UTC): later exposures do not exist yet. None takes
        `astrid_assets.clock.simulated_now` at every search.
    """

    name = "simulated"

    def __init__(self, clock: float | None = None) -> None:
        self._clock = clock

    @property
    def clock(self) -> float:
        """The present, MJD (UTC)."""
        if self._clock is not None:
            return self._clock
        from astrid_assets.clock import simulated_now

        return simulated_now()

    def search(self, sky_field: Field) -> list[Exposure]:
        """Return the exposures in the field's windows up to now, and one reference a band.

        Parameters
        ----------
        sky_field
            A field with ``simulated`` options. Without bands it gets all of the survey's.

        Raises
        ------
        NoCoverageError
            The survey has no such filter.
        """
        tile, now = Tile.of(sky_field), self.clock
        found: list[Exposure] = []
        for band in sky_field.bands or tuple(BANDS):
            if band not in BANDS:
                msg = f"the simulated survey has the filters {', '.join(BANDS)}, not {band!r}"
                raise NoCoverageError(msg)
            found += _references(tile, sky_field, band, now)
            found += [_science_row(tile, visit) for visit in _wanted(tile, sky_field, band, now)]
        return sorted(found, key=lambda row: (row.mjd_start, row.exposure_id))

    def download(self, exposure: Exposure, folder: Path) -> Download:
        """Make the files of an exposure in ``folder`` and verify them.

        Roles: ``image``, ``truth`` and, for an exposure, ``mask`` and ``psf``; for a stack
        ``coverage`` and ``noise``.

        Raises
        ------
        BadAnswerError
            A file arrived shorter than the archive announced (none is left behind), or the
            locator is none of this survey's.
        """
        tile, request = _parse(exposure.url)
        folder.mkdir(parents=True, exist_ok=True)
        band, nights = request["band"], [int(night) for night in request["nights"].split(",")]
        frames = [visit_on(tile, band, night) for night in nights]
        if request["product"] == "reference":
            shape = reference_cards(tile)[1]
            paths = products.write_reference(stack(tile, frames), tile, folder)
        else:
            shape = tile.ny, tile.nx
            paths = products.write_science(expose(tile, frames[0]), tile, frames[0], folder)
        _verify(paths, products.stored_bytes(request["product"], shape))
        return Download(files=paths, sha256={role: _checksum(path) for role, path in paths.items()})

    def catalogues(self, sky_field: Field) -> list[Offer]:  # noqa: ARG002 - all catalogues cover the whole sky
        """Return the catalogues of the simulated sky."""
        return catalogues.offers(self.clock)

    def catalogue(self, offer: Offer, sky_field: Field, cone: Cone) -> bytes:
        """Return what a catalogue of the simulated sky answers about a circle."""
        return catalogues.answer(offer, Tile.of(sky_field), cone, self.clock)

    def alert_nights(self, sky_field: Field) -> list[Offer]:
        """Return the nights of the science window in which the field was visited up to now."""
        nights = self._visits_by_night(sky_field)
        return [
            Offer(
                name=f"alerts_{visits[0].filefracday[:8]}",
                title="Simulated alerts",
                format="avro",
                revision=",".join(f"{visit.band}{visit.filefracday}" for visit in visits),
                mjd=float(night),
            )
            for night, visits in sorted(nights.items())
        ]

    def alerts(self, offer: Offer, sky_field: Field, cone: Cone) -> bytes:
        """Return the alerts of a night in a circle, one Avro file.

        Raises
        ------
        NoCoverageError
            There is no alert.
        """
        visits = self._visits_by_night(sky_field).get(int(offer.mjd or 0), [])
        content = alerts.packets(Tile.of(sky_field), visits, cone)
        if not content:
            msg = f"no alert in the night of {offer.name}"
            raise NoCoverageError(msg)
        return content

    def cutout_surveys(self, sky_field: Field) -> list[Offer]:  # noqa: ARG002 - a survey says at once if not
        """Return the surveys that have seen the simulated sky."""
        return cutouts.offers()

    def cutout(self, offer: Offer, sky_field: Field, *, width: float, pixels: int) -> bytes:
        """Return the simulated sky as a survey saw it, a FITS file as SkyView sends it."""
        return cutouts.cutout(offer, Tile.of(sky_field), width=width, pixels=pixels)

    def _visits_by_night(self, sky_field: Field) -> dict[int, list[Visit]]:
        tile, nights = Tile.of(sky_field), {}
        for band in sky_field.bands or tuple(BANDS):
            for visit in _wanted(tile, sky_field, band, self.clock):
                nights.setdefault(visit.night, []).append(visit)
        return nights


def _bounds(window: Window) -> tuple[float, float]:
    start, end = window.start_mjd, window.end_mjd
    return (-inf if start is None else start), (inf if end is None else end)


def _wanted(tile: Tile, sky_field: Field, band: str, now: float) -> Iterator[Visit]:
    """Yield the visits in the science window that are over by now."""
    start, end = _bounds(sky_field.science_window)
    limit = sky_field.simulated.max_epochs_per_band
    for number, visit in enumerate(visits(tile, band, max(start, SURVEY_START), min(end, now))):
        if limit is not None and number >= limit:
            return
        if visit.mjd_end <= now:
            yield visit


def _reference_span(sky_field: Field) -> tuple[float, float]:
    """Return when the survey takes the frames of a field's reference, MJD.

    Without a window: the year that ends ``guard_days`` before the science window, or the first
    year of the survey.
    """
    start, end = _bounds(sky_field.reference_window)
    if end == inf:
        science = sky_field.science_window.start_mjd
        after = max(start, SURVEY_START)
        end = after + _REFERENCE_YEAR if science is None else science - sky_field.guard_days
    return max(start, end - _REFERENCE_YEAR, SURVEY_START), end


def _references(tile: Tile, sky_field: Field, band: str, now: float) -> list[Exposure]:
    """Return the reference of a band; none before the last of its frames is taken."""
    frames = choose_frames(tile, list(visits(tile, band, *_reference_span(sky_field))))
    if not frames or frames[-1].mjd_end > now:
        return []
    cards, shape = reference_cards(tile)
    url = _locator(tile, "reference", band, [visit.night for visit in frames])
    states = [conditions(tile, visit) for visit in frames]
    return [
        Exposure(
            exposure_id=f"{products.reference_name(tile, band)}_ref",
            product="stack",
            band=band,
            mjd_start=frames[0].mjd_start,
            mjd_mid=(frames[0].mjd_start + frames[-1].mjd_end) / 2,
            mjd_end=frames[-1].mjd_end,
            footprint=footprint(cards, shape),
            bytes=sum(products.stored_bytes("reference", shape).values()),
            n_exposures=len(frames),
            seeing=round(sum(fwhm(s.psf) for s in states) / len(states) * PIXEL_SCALE, 3),
            **_common(tile, url),
        )
    ]


def _science_row(tile: Tile, visit: Visit) -> Exposure:
    state, shape = conditions(tile, visit), (tile.ny, tile.nx)
    url = _locator(tile, "science", visit.band, [visit.night])
    return Exposure(
        exposure_id=products.science_name(tile, visit),
        product="exposure",
        band=visit.band,
        mjd_start=visit.mjd_start,
        mjd_mid=visit.mjd_mid,
        mjd_end=visit.mjd_end,
        footprint=footprint(science_cards(tile, state), shape),
        bytes=sum(products.stored_bytes("science", shape).values()),
        seeing=round(fwhm(state.psf) * PIXEL_SCALE, 3),
        limiting_magnitude=round(products.limiting_magnitude(state), 3),
        airmass=round(state.airmass, 3),
        **_common(tile, url),
    )


def _common(tile: Tile, url: str) -> Mapping[str, object]:
    """Return what all rows of the survey share."""
    _, ccd, quadrant = tile.detector
    return {
        "archive": SimulatedArchive.name,
        "survey": "ztf",
        "detector_type": "ztf-ccd",
        "calibration": f"simulated-{_VERSION}",
        "detector": f"c{ccd:02d}_q{quadrant}",
        "exptime": EXPTIME,
        "url": url,
        "revision": sha256(f"{_VERSION} {url}".encode()).hexdigest()[:16],
    }


def _locator(tile: Tile, product: str, band: str, nights: list[int]) -> str:
    request = {"product": product, "band": band, "nights": ",".join(map(str, nights)), **tile.to_dict()}
    return f"{_SCHEME}:?{urlencode(request)}"


def _parse(url: str) -> tuple[Tile, dict[str, str]]:
    parts = urlsplit(url)
    request = {key: values[0] for key, values in parse_qs(parts.query).items()}
    names = [item.name for item in fields(Tile)]
    if parts.scheme != _SCHEME or not {"product", "band", "nights", *names} <= request.keys():
        msg = f"{url!r} is no locator of the simulated survey"
        raise BadAnswerError(msg)
    numbers = {name: request[name] for name in names}
    whole = {name: int(numbers.pop(name)) for name in ("seed", "ny", "nx")}
    dirt = numbers.pop("dirt") == "True"
    return Tile(**whole, dirt=dirt, **{name: float(text) for name, text in numbers.items()}), request


def _verify(paths: Mapping[str, Path], announced: Mapping[str, int]) -> None:
    """Compare the files with the lengths that the archive announced; remove all if one is short."""
    for role, length in announced.items():
        arrived = paths[role].stat().st_size
        if arrived != length:
            for path in paths.values():
                path.unlink()
            msg = f"{paths[role].name}: truncated, {arrived} of {length} bytes arrived"
            raise BadAnswerError(msg)


def _checksum(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
