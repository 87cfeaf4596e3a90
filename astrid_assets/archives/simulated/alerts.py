"""Alerts that a survey like ZTF would have sent about the simulated sky, as its Avro packets.

A few of each visit: changes that stand out of the noise, and now and then an artefact. Stamps are
drawn from the models of the images, with noise and imperfect subtraction; no difference of whole
images is ever made, so they owe nothing to how the platform subtracts.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import floor
from typing import Any

import numpy as np

from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.simulated.alert_schema import ALERT_SCHEMA, empty_candidate
from astrid_assets.archives.simulated.cadence import Visit
from astrid_assets.archives.simulated.catalogues import KnownAsteroids, known_asteroids, ztf_name
from astrid_assets.archives.simulated.conditions import Conditions, conditions
from astrid_assets.archives.simulated.grid import science_cards, world
from astrid_assets.archives.simulated.optics import PsfField
from astrid_assets.archives.simulated.products import limiting_magnitude, science_name
from astrid_assets.archives.simulated.render import Points, draw
from astrid_assets.archives.simulated.scene import (
    Epoch,
    Scene,
    asteroid_points,
    static_scene,
    transient_scene,
)
from astrid_assets.archives.simulated.seeds import generator, uniform
from astrid_assets.archives.simulated.sky import VARIABLE_KINDS, patch
from astrid_assets.archives.simulated.survey import BANDS, GAIN, PIXEL_SCALE, READ_NOISE
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.simulated.truth import Truth

__all__ = ["packets"]

_SIZE = 63
"""Side of a stamp, pixels."""

_MOST = {"transient": 2, "variable": 1, "asteroid": 1, "artefact": 1}
"""Alerts of each kind from one visit; the real stream would have some more."""

_ARTEFACTS = 0.6
"""Share of the visits with an alert that is an artefact."""

_DETECTION = 6.0
"""Significance from which an alert is sent, sigma."""

_SHARPER, _DEEPER = 0.92, 3.5
"""Width of the template's PSF and its noise, over those of the science image."""

_RESIDUAL = 0.02
"""RMS of what subtraction leaves of static sources, share of their gradient per pixel."""

_REACH = 96.0
"""Pixels from the middle of a stamp within which sources shine into it."""


@dataclass(frozen=True)
class _Source:
    """Something that changed, on the pixels of one exposure."""

    ident: str
    kind: str
    x: float
    y: float
    flux: float  # of the difference, ADU, signed


@dataclass(frozen=True, eq=False)
class _Frame:
    """All light of one exposure, and the same without what changed."""

    tile: Tile
    visit: Visit
    state: Conditions
    scene: Scene
    now: Points
    before: Points
    change: Points
    sources: list[_Source]
    known: KnownAsteroids


def packets(tile: Tile, visits: Sequence[Visit], cone: Cone) -> bytes:
    """Return the alerts of some visits in a circle as one Avro file; no bytes where there are none."""
    import fastavro

    records = [record for visit in visits for record in _records(tile, visit, cone)]
    if not records:
        return b""
    stream = io.BytesIO()
    fastavro.writer(stream, _parsed_schema(), records, codec="null", sync_marker=b"simulated alerts")
    return stream.getvalue()


@lru_cache(maxsize=1)
def _parsed_schema() -> dict[str, Any]:
    import fastavro

    return fastavro.parse_schema(ALERT_SCHEMA)


def _records(tile: Tile, visit: Visit, cone: Cone) -> Iterator[dict[str, Any]]:
    frame = _frame(tile, visit)
    wcs = world(frame.scene.cards)
    for number, source in enumerate(_chosen(frame)):
        ra, dec = (float(v[0]) for v in wcs.wcs_pix2world([source.x], [source.y], 0))
        away = np.hypot((ra - cone.ra) * np.cos(np.radians(cone.dec)), dec - cone.dec)
        if away <= cone.radius:
            yield _record(frame, source, (ra, dec), number)


# --- what changed ---------------------------------------------------------------------------------


def _frame(tile: Tile, visit: Visit) -> _Frame:
    state, truth, sky = conditions(tile, visit), Truth(), patch(tile)
    epoch = Epoch((visit.mjd_mid,), visit.band, state.zeropoint, state.airmass, state.parallactic)
    cards = science_cards(tile, state)
    scene = Scene(cards, (tile.ny, tile.nx), epoch, lambda x, _: np.ones_like(x))
    static = static_scene(scene, sky, truth)
    stars = truth.rows[0]
    flux = static.flux.copy()
    # stars come first among the points of light, in the order of the truth
    flux[: stars["flux"].size] *= 10 ** (0.4 * (stars["mag"] - stars["mag_mean"]))
    new = Points.joined(
        transient_scene(scene, tile, sky, truth), asteroid_points(scene, tile, sky, visit.night, truth)
    )
    return _Frame(
        tile=tile,
        visit=visit,
        state=state,
        scene=scene,
        now=Points.joined(static, new),
        before=Points(static.x, static.y, flux),
        change=Points.joined(Points(static.x, static.y, static.flux - flux), new),
        sources=list(_sources(truth, flux)),
        known=known_asteroids(tile, visit.mjd_mid),
    )


def _sources(truth: Truth, mean_flux: np.ndarray) -> Iterator[_Source]:
    stars = truth.rows[0]
    for i in np.flatnonzero(stars["label"] != VARIABLE_KINDS[0]):
        change = stars["flux"][i] - mean_flux[i]
        yield _Source(str(stars["ident"][i]), "variable", stars["x"][i], stars["y"][i], change)
    _, _, transients, *asteroids = truth.rows  # stars, galaxies, transients, then asteroids one by one
    for ident, x, y, flux in zip(*(transients[k] for k in ("ident", "x", "y", "flux")), strict=True):
        yield _Source(str(ident), "transient", x, y, flux)
    for one in asteroids:
        x, y = (one["x"] + one["x_end"]) / 2, (one["y"] + one["y_end"]) / 2
        yield _Source(str(one["ident"]), "asteroid", x, y, one["flux"])


def _chosen(frame: _Frame) -> list[_Source]:
    """Return the sources of which alerts are sent: significant ones on the image, a few of each kind."""
    limit = 10 ** (-0.4 * (limiting_magnitude(frame.state) - frame.state.zeropoint)) / 5.0
    seen = [
        s
        for s in frame.sources
        if frame.scene.inside(s.x, s.y, -2.0) and abs(s.flux) > _DETECTION * np.hypot(limit, 0.02 * s.flux)
    ]
    seen.sort(key=lambda s: uniform("alert", frame.tile.seed, s.ident, frame.visit.band, frame.visit.night))
    found = [s for kind in _MOST for s in [s for s in seen if s.kind == kind][: _MOST[kind]]]
    return [*found, *_artefacts(frame, limit)]


def _artefacts(frame: _Frame, limit: float) -> list[_Source]:
    """Return what looks like a change: a hit of a cosmic ray, or a star that did not subtract."""
    rng = _rng(frame, "artefact")
    if rng.random() > _ARTEFACTS:
        return []
    flux = limit * rng.uniform(6.0, 25.0)
    if rng.random() < 0.5:
        x, y = rng.uniform(40, frame.tile.nx - 40), rng.uniform(40, frame.tile.ny - 40)
        return [_Source("hit", "hit", x, y, flux)]
    before = frame.before
    bright = np.flatnonzero((before.flux > 300 * limit) & frame.scene.inside(before.x, before.y, -40.0))
    if not bright.size:
        return []
    i = bright[rng.integers(bright.size)]
    return [_Source("residual", "residual", float(before.x[i]), float(before.y[i]), flux)]


def _rng(frame: _Frame, *keys: str | int) -> np.random.Generator:
    return generator("alerts", *frame.tile.key, frame.visit.band, frame.visit.night, *keys)


# --- stamps ---------------------------------------------------------------------------------------


def _stamps(frame: _Frame, source: _Source, number: int) -> dict[str, np.ndarray]:
    """Return science, template and difference about a source, ADU; NaN outside the image.

    Science and template keep their sky; the difference is turned so that the change is positive.
    """
    rng, state = _rng(frame, "stamp", number), frame.state
    x0, y0 = round(source.x) - _SIZE // 2, round(source.y) - _SIZE // 2
    psf = replace(state.psf, size_terms=(0.0,) * 3, ellipticity_terms=((0.0,) * 3,) * 2)
    noise = rng.standard_normal((3, _SIZE, _SIZE))
    now, before, change = (
        _drawn(points, shape, x0, y0)
        for points, shape in (
            (frame.now, psf),
            (frame.before, replace(psf, fwhm=_SHARPER * psf.fwhm, ellipticity=(0.0, 0.0))),
            (frame.change, psf),
        )
    )
    sigma = np.sqrt((np.maximum(now, 0.0) + state.sky) / GAIN + (READ_NOISE / GAIN) ** 2)
    left = 6.0 * _RESIDUAL if source.kind == "residual" else _RESIDUAL * rng.normal()
    science = now + state.sky + sigma * noise[0]
    template = before + state.sky + sigma / _DEEPER * noise[1]
    difference = change + left * np.gradient(before)[rng.integers(2)] + 1.04 * sigma * noise[2]
    if source.kind == "hit":
        hit = _hit(source.flux, rng)
        science, difference = science + hit, difference + hit
    outside = ~_on_image(frame.tile, x0, y0)
    stamps = {"Science": science, "Template": template, "Difference": np.sign(source.flux) * difference}
    return {name: np.where(outside, np.nan, image).astype(">f4") for name, image in stamps.items()}


def _drawn(points: Points, psf: PsfField, x0: int, y0: int) -> np.ndarray:
    x, y, middle = points.x - x0, points.y - y0, _SIZE // 2
    near = (np.abs(x - middle) < _REACH) & (np.abs(y - middle) < _REACH)
    return draw(Points(x[near], y[near], points.flux[near]), psf, (_SIZE, _SIZE))


def _hit(flux: float, rng: np.random.Generator) -> np.ndarray:
    """Return the charge of a cosmic ray: a few pixels in a row."""
    image, middle = np.zeros((_SIZE, _SIZE)), _SIZE // 2
    length, step = rng.integers(1, 5), rng.integers(-1, 2)
    for i in range(length):
        image[middle + i * step, middle + i] += 2.0 * flux / length
    return image


def _on_image(tile: Tile, x0: int, y0: int) -> np.ndarray:
    x, y = x0 + np.arange(_SIZE), y0 + np.arange(_SIZE)
    return ((y >= 0) & (y < tile.ny))[:, None] & ((x >= 0) & (x < tile.nx))[None, :]


@lru_cache(maxsize=1)
def _header() -> bytes:
    from astropy.io.fits import Header

    cards = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": _SIZE, "NAXIS2": _SIZE, "BUNIT": "DN"}
    return Header(cards).tostring().encode()


def _gzipped(image: np.ndarray) -> bytes:
    content = _header() + image.tobytes()
    return gzip.compress(content + b"\0" * (-len(content) % 2880), compresslevel=1, mtime=0)


# --- packets --------------------------------------------------------------------------------------


def _record(frame: _Frame, source: _Source, place: tuple[float, float], number: int) -> dict[str, Any]:
    tile, visit = frame.tile, frame.visit
    moment = visit.mjd_start - 57753.5  # days since ZTF's day 0, 2017-01-01 + 0.5
    day, part = floor(moment), floor(moment % 1.0 * 1e6)
    candid = int(f"{day:04d}{part:06d}{tile.rcid:02d}{BANDS[visit.band].filter_id}5{number:05d}")
    pid = int(f"{day:04d}{part:06d}{tile.rcid:02d}15")
    name = source.ident if source.kind in _MOST else f"{source.kind}-{visit.night}-{visit.band}-{number}"
    candidate = empty_candidate() | _candidate(frame, source, place, number)
    candidate |= {"candid": candid, "pid": pid, "nid": day}
    record = {
        "schemavsn": "3.3",
        "publisher": "Simulated ZTF-like survey",
        "objectId": ztf_name(tile.seed, name, _first_year(source, visit)),
        "candid": candid,
        "candidate": candidate,
        "prv_candidates": None,
    }
    short = {"Science": "sci", "Template": "ref", "Difference": "scimref"}
    for kind, image in _stamps(frame, source, number).items():
        file = f"candid{candid}_pid{pid}_targ_{short[kind]}.fits.gz"
        record[f"cutout{kind}"] = {"fileName": file, "stampData": _gzipped(image)}
    return record


def _first_year(source: _Source, visit: Visit) -> float:
    """Return a time in the year in which ZTF first saw an object; variables were there from the start."""
    return 58250.0 if source.kind == "variable" else visit.mjd_start


def _candidate(frame: _Frame, source: _Source, place: tuple[float, float], number: int) -> dict[str, Any]:
    tile, visit, state = frame.tile, frame.visit, frame.state
    rng = _rng(frame, "candidate", number)
    field, _, _ = tile.detector
    limit = limiting_magnitude(state)
    error = 1.0857 * 10 ** (0.4 * (state.zeropoint - 2.5 * np.log10(abs(source.flux)) - limit)) / 5.0
    magnitude = state.zeropoint - 2.5 * np.log10(abs(source.flux)) + error * rng.normal()
    rb, drb = _scores(source, rng)
    return {
        "jd": visit.mjd_start + 2400000.5,
        "fid": BANDS[visit.band].filter_id,
        "diffmaglim": limit,
        "pdiffimfilename": f"{science_name(tile, visit)}_scimrefdiffimg.fits",
        "programpi": "Kulkarni",
        "programid": 1,
        "isdiffpos": "t" if source.flux > 0 else "f",
        "rcid": tile.rcid,
        "field": field,
        "xpos": source.x + 1.0,
        "ypos": source.y + 1.0,
        "ra": place[0],
        "dec": place[1],
        "magpsf": magnitude,
        "sigmapsf": max(error, 0.01),
        "fwhm": state.psf.fwhm / 0.92,
        "mindtoedge": min(source.x, source.y, tile.nx - 1 - source.x, tile.ny - 1 - source.y),
        "magfromlim": limit - magnitude,
        "elong": 1.0 + abs(rng.normal(0.0, 0.12)) + (0.8 if source.kind == "hit" else 0.0),
        "nneg": int(rng.integers(0, 6)) + (8 if source.kind == "residual" else 0),
        "nbad": 0,
        "rb": rb,
        "drb": drb,
        "ranr": place[0],
        "decnr": place[1],
        "ndethist": 1,
        "ncovhist": 100,
        "scorr": 1.0857 / max(error, 0.01),
        "magzpsci": state.zeropoint + state.zeropoint_error,
        "exptime": 30.0,
        **_nearest_asteroid(frame.known, source, place),
    }


def _scores(source: _Source, rng: np.random.Generator) -> tuple[float, float]:
    """Return rb and drb; the network is rarely wrong, the random forest more often."""
    if source.kind in _MOST:
        return float(rng.beta(6.0, 2.0)), float(rng.beta(12.0, 0.4))
    return float(rng.beta(2.0, 6.0)), float(rng.beta(0.4, 8.0))


def _nearest_asteroid(
    known: KnownAsteroids, source: _Source, place: tuple[float, float]
) -> dict[str, float | str]:
    """Return the fields about the nearest known asteroid; -999 and ``null`` without one in 30 arcsec."""
    nothing: dict[str, float | str] = {"ssdistnr": -999.0, "ssmagnr": -999.0, "ssnamenr": "null"}
    if source.kind not in _MOST or not known.ra.size:
        return nothing
    east = (known.ra - place[0]) * np.cos(np.radians(place[1]))
    away = 3600.0 * np.hypot(east, known.dec - place[1])
    i = int(away.argmin())
    if away[i] > 30.0 * PIXEL_SCALE:
        return nothing
    name = known.name[i] if known.number[i] == "-" else known.number[i]
    return {"ssdistnr": float(away[i]), "ssmagnr": float(known.magnitude[i]), "ssnamenr": name}
