"""What catalogues would say about the simulated sky, in the formats of the real services.

They know what such catalogues know: they are not complete, end at their own depth, carry the errors of
their measurements, and list a few things that are not so. Whether an object is known depends on
its name alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from math import floor

import numpy as np

from astrid_assets.archives.protocol import Cone, Offer
from astrid_assets.archives.simulated import changing
from astrid_assets.archives.simulated.seeds import generator, uniform
from astrid_assets.archives.simulated.sky import (
    VARIABLE_KINDS,
    Cell,
    Galaxies,
    cell_objects,
    cells_around,
    star_positions,
)
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.archives.simulated.votable import votable

__all__ = ["KnownAsteroids", "answer", "known_asteroids", "offers", "redshifts", "ztf_name"]

_GAIA_EPOCH = 57388.5
"""MJD of J2016.0, the epoch of Gaia DR3."""

_GAIA_LIMIT = 20.7
"""G magnitude to which Gaia DR3 is essentially complete (Gaia Collaboration 2023, A&A 674, A1)."""

_GAIA_VARIABLES = 0.6
"""Share of the variables that Gaia's variability pipeline has found."""

_SDSS_LIMIT, _SPECTRA_LIMIT = 21.5, 17.77
"""r magnitude of good star-galaxy separation, and of the spectroscopic sample (Strauss et al. 2002)."""

_VSX_LIMIT, _VSX_SHARE, _VSX_SUSPECTED, _VSX_FALSE = 19.5, 0.75, 0.08, 0.0005
"""Faintest mean r magnitude in VSX, share of the variables known, share of those only suspected, and share
of the constant stars that are suspected."""

_TNS_LIMIT, _TNS_SHARE, _TNS_CLASSIFIED_LIMIT, _TNS_CLASSIFIED_SHARE = 19.8, 0.70, 18.8, 0.6
"""Magnitude that a transient has to reach to be reported, share reported, magnitude from which spectra are
taken and share of those classified (Fremling et al. 2020: complete to 18.5)."""

_TNS_MEMORY = 400.0
"""Days of reports that are kept in mind; the real table goes back for ever."""

_KNOWN_MAIN_BELT, _KNOWN_NEAR_EARTH = 0.92, 0.6
"""Share of asteroids with a known orbit, brighter than about V = 21."""

_VSX_TYPES = dict(zip(VARIABLE_KINDS, ("", "RRAB", "EW", "EA", "SR", "AGN"), strict=True))
"""Type of VSX for each kind of variable."""

_TNS_TYPES = {
    "sn_ia": ("3", "SN Ia"),
    "sn_ibc": ("6", "SN Ib/c"),
    "sn_iip": ("11", "SN IIP"),
    "sn_iin": ("13", "SN IIn"),
    "tde": ("120", "TDE"),
    "cataclysmic": ("27", "CV"),
    "fast": ("9", "SN Ibn"),
}
"""Number and name of the type at TNS for each class of transients."""


def offers(now: float) -> list[Offer]:
    """Return the catalogues; the table of reported transients is a new one every day."""
    return [
        Offer("gaia_dr3", "Gaia DR3", "gaia", "DR3"),
        Offer("sdss", "SDSS", "sdss", "DR17"),
        Offer("vsx", "VSX", "vsx", "2025"),
        Offer("tns", "TNS", "tns", str(floor(now))),
        Offer("skybot", "SkyBoT", "skybot", "1", moving=True),
    ]


def answer(offer: Offer, tile: Tile, cone: Cone, now: float) -> bytes:
    """Return what a catalogue answers about a circle."""
    if offer.name == "tns":
        return _tns(tile, cone, now)
    if offer.name == "skybot":
        return _skybot(tile, cone)
    return {"gaia_dr3": _gaia, "sdss": _sdss, "vsx": _vsx}[offer.name](tile.seed, cone)


def _inside(ra: np.ndarray, dec: np.ndarray, cone: Cone) -> np.ndarray:
    """Return which positions lie in a circle."""
    a, d = np.radians(ra - cone.ra), np.radians(dec)
    d0 = np.radians(cone.dec)
    haversine = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin(a / 2) ** 2
    return haversine <= np.sin(np.radians(cone.radius) / 2) ** 2


def _texts(values: Iterable[float], digits: int) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]


def _concatenated(parts: list[dict[str, np.ndarray]], keep: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts])[keep] for name in parts[0]}


# --- Gaia -----------------------------------------------------------------------------------------

_GAIA_FIELDS = (
    ("designation", "char", ""),
    ("source_id", "long", ""),
    ("ref_epoch", "double", "yr"),
    ("ra", "double", "deg"),
    ("ra_error", "float", "mas"),
    ("dec", "double", "deg"),
    ("dec_error", "float", "mas"),
    ("parallax", "double", "mas"),
    ("parallax_error", "float", "mas"),
    ("pmra", "double", "mas.yr**-1"),
    ("pmra_error", "float", "mas.yr**-1"),
    ("pmdec", "double", "mas.yr**-1"),
    ("pmdec_error", "float", "mas.yr**-1"),
    ("ruwe", "float", ""),
    ("phot_g_mean_mag", "float", "mag"),
    ("bp_rp", "float", "mag"),
    ("phot_variable_flag", "char", ""),
    ("in_qso_candidates", "boolean", ""),
    ("in_galaxy_candidates", "boolean", ""),
    ("non_single_star", "short", ""),
)


def _gaia(seed: int, cone: Cone) -> bytes:
    parts = [_gaia_cell(seed, cell) for cell in cells_around(cone.ra, cone.dec, cone.radius)]
    inside = [(part["g"] < _GAIA_LIMIT) & _inside(part["ra"], part["dec"], cone) for part in parts]
    found = _concatenated(parts, np.concatenate(inside))
    names = [str(name) for name in found["source_id"]]
    error = [_texts(found["error"] * factor, 4) for factor in (1.0, 0.9, 1.15, 1.2, 1.05)]
    columns = [
        [f"Gaia DR3 {name}" for name in names],
        names,
        ["2016.0"] * len(names),
        _texts(found["ra"], 12),
        error[0],
        _texts(found["dec"], 12),
        error[1],
        _texts(found["parallax"], 6),
        error[2],
        _texts(found["pm_ra"], 6),
        error[3],
        _texts(found["pm_dec"], 6),
        error[4],
        _texts(found["ruwe"], 4),
        _texts(found["g"], 5),
        _texts(found["bp_rp"], 5),
        ["VARIABLE" if v else "NOT_AVAILABLE" for v in found["variable"]],
        ["T" if q else "F" for q in found["quasar"]],
        ["F"] * len(names),
        ["0"] * len(names),
    ]
    circle = f"CIRCLE({cone.ra!r}, {cone.dec!r}, {cone.radius!r})"
    return votable(_GAIA_FIELDS, columns, infos={"QUERY": circle}, params={"RELEASE": "Gaia DR3"})


def _gaia_cell(seed: int, cell: Cell) -> dict[str, np.ndarray]:
    """Return Gaia's measurements of the point sources of a cell.

    Errors grow with magnitude as in Lindegren et al. 2021 (A&A 649, A2), table 4. The stars of the
    simulated sky have no parallax; the values here are those of a tangential velocity of 150 km / s
    and shift no star by more than 0.03 arcsec.
    """
    stars, _ = cell_objects(seed, cell)
    rng = generator("gaia", seed, cell.row, cell.column)
    count, nucleus = stars.ra.size, stars.kind == VARIABLE_KINDS.index("nucleus")
    noise = rng.normal(size=(5, count))
    g = stars.mag_r - 0.05 + rng.normal(0.0, 0.01, count)
    error = np.hypot(0.02, 0.05 * 10 ** (0.2 * (g - 17.0)))  # mas
    ra, dec = star_positions(stars, _GAIA_EPOCH)
    return {
        "source_id": rng.integers(2**40, 2**62, count),
        "ra": ra + error * noise[0] / 3.6e6 / np.cos(np.radians(dec)),
        "dec": dec + error * noise[1] / 3.6e6,
        "error": error,
        "parallax": np.hypot(stars.pm_ra, stars.pm_dec) * 4.74 / 150.0 + 1.15 * error * noise[2],
        "pm_ra": stars.pm_ra + 1.2 * error * noise[3],
        "pm_dec": stars.pm_dec + 1.05 * error * noise[4],
        "ruwe": np.clip(rng.normal(1.02, 0.05, count), 0.8, None),
        "g": g,
        "bp_rp": 0.3 + 1.1 * stars.colour + rng.normal(0.0, 0.05, count),
        "variable": (stars.kind > 0) & (rng.random(count) < _GAIA_VARIABLES),
        "quasar": nucleus & (rng.random(count) < 0.7),
    }


# --- galaxies -------------------------------------------------------------------------------------


def redshifts(galaxies: Galaxies, seed: int) -> np.ndarray:
    """Return redshifts of galaxies: the median at their magnitude with a scatter of a third."""
    scatter = np.array([uniform("redshift", seed, str(name)) for name in galaxies.ident]) - 0.5
    return 0.10 * 10 ** (0.16 * (galaxies.mag_r - 17.77)) * np.exp(1.1 * scatter)


def _sdss(seed: int, cone: Cone) -> bytes:
    """Return the answer of SkyServer to a query for galaxies, CSV."""
    lines = ["#Table1", "objid,ra,dec,type,modelMag_r,petroR50_r,z,class"]
    for cell in cells_around(cone.ra, cone.dec, cone.radius):
        _, galaxies = cell_objects(seed, cell)
        lines += _sdss_rows(seed, cell, galaxies, cone)
    return ("\n".join(lines) + "\n").encode()


def _sdss_rows(seed: int, cell: Cell, galaxies: Galaxies, cone: Cone) -> list[str]:
    rng = generator("sdss", seed, cell.row, cell.column)
    count = galaxies.ra.size
    noise, number = rng.normal(size=(4, count)), rng.integers(10**17, 10**18, count)
    mag = galaxies.mag_r + 0.02 * 10 ** (0.25 * (galaxies.mag_r - 19.0)) * noise[0]
    size = galaxies.radius * np.sqrt(galaxies.axis_ratio) * np.exp(0.08 * noise[1])
    size = np.hypot(size, 0.5)  # the seeing of SDSS remains in Petrosian radii
    dec = galaxies.dec + 0.05 / 3600.0 * noise[2]
    ra = galaxies.ra + 0.05 / 3600.0 * noise[3] / np.cos(np.radians(dec))
    spectra = (mag < _SPECTRA_LIMIT) & (rng.random(count) < 0.94)
    z = redshifts(galaxies, seed)
    return [
        f"1{number[i]},{ra[i]:.10f},{dec[i]:.10f},3,{mag[i]:.5f},{size[i]:.5f},"
        + (f"{z[i]:.6f},GALAXY" if spectra[i] else "null,null")
        for i in np.flatnonzero((mag < _SDSS_LIMIT) & _inside(ra, dec, cone))
    ]


# --- variables ------------------------------------------------------------------------------------

_VSX_FIELDS = (
    ("OID", "int", ""),
    ("Name", "char", ""),
    ("V", "int", ""),
    ("RAJ2000", "double", "deg"),
    ("DEJ2000", "double", "deg"),
    ("Type", "char", ""),
    ("max", "float", "mag"),
    ("n_max", "char", ""),
    ("min", "float", "mag"),
    ("n_min", "char", ""),
    ("Period", "double", "d"),
)


def _vsx(seed: int, cone: Cone) -> bytes:
    """Return the answer of VizieR for ``B/vsx/vsx``."""
    parts = [_vsx_cell(seed, cell) for cell in cells_around(cone.ra, cone.dec, cone.radius)]
    inside = np.concatenate([p["known"] & _inside(p["ra"], p["dec"], cone) for p in parts])
    found = _concatenated(parts, inside)
    count = found["ra"].size
    columns = [
        [str(number) for number in found["number"]],
        [_designation(*place) for place in zip(found["ra"], found["dec"], strict=True)],
        [str(int(flag)) for flag in found["suspected"]],
        _texts(found["ra"], 5),
        _texts(found["dec"], 5),
        found["type"].tolist(),
        _texts(found["mag"] - found["amplitude"] / 2, 2),
        ["r"] * count,
        _texts(found["mag"] + found["amplitude"] / 2, 2),
        ["r"] * count,
        [f"{p:.6f}" if p > 0 else "" for p in found["period"]],
    ]
    return votable(_VSX_FIELDS, columns, infos={"-source": "B/vsx/vsx", "-c": f"{cone.ra} {cone.dec}"})


def _vsx_cell(seed: int, cell: Cell) -> dict[str, np.ndarray]:
    stars, _ = cell_objects(seed, cell)
    rng = generator("vsx", seed, cell.row, cell.column)
    count = stars.ra.size
    chance, doubt, number = rng.random(count), rng.random(count), rng.integers(10**6, 10**7, count)
    varies = stars.kind > 0
    suspected = ~varies | (doubt < _VSX_SUSPECTED)
    ra, dec = star_positions(stars, _GAIA_EPOCH)
    kind = np.array([_VSX_TYPES[name] for name in VARIABLE_KINDS], dtype=object)[stars.kind]
    periodic = varies & ~suspected & (stars.kind != VARIABLE_KINDS.index("nucleus"))
    return {
        "known": (stars.mag_r < _VSX_LIMIT) & (chance < np.where(varies, _VSX_SHARE, _VSX_FALSE)),
        "number": number,
        "ra": ra + rng.normal(0.0, 0.1, count) / 3600.0 / np.cos(np.radians(dec)),
        "dec": dec + rng.normal(0.0, 0.1, count) / 3600.0,
        "type": np.where(suspected, "VAR", kind),
        "suspected": suspected,
        "mag": stars.mag_r,
        "amplitude": np.where(varies, stars.amplitude, 0.05),
        "period": np.where(periodic, stars.period, 0.0),
    }


def _designation(ra: float, dec: float) -> str:
    """Return the name of a variable found by the survey itself: ``ZTF J173959.12+620101.1``."""
    hours, arc = ra / 15.0, abs(dec)
    h, m = int(hours), int(hours * 60 % 60)
    d, n = int(arc), int(arc * 60 % 60)
    right, sign = f"{h:02d}{m:02d}{hours * 3600 % 60:05.2f}", "-" if dec < 0 else "+"
    return f"ZTF J{right}{sign}{d:02d}{n:02d}{arc * 3600 % 60:04.1f}"


# --- transients -----------------------------------------------------------------------------------

_TNS_HEADER = (
    '"objid","name_prefix","name","ra","declination","redshift","typeid","type","reporting_groupid",'
    '"reporting_group","source_groupid","source_group","discoverydate","discoverymag","discmagfilter",'
    '"filter","reporters","time_received","internal_names","Discovery_ADS_bibcode","Class_ADS_bibcodes",'
    '"creationdate","lastmodified"'
)


def _tns(tile: Tile, cone: Cone, now: float) -> bytes:
    """Return ``tns_public_objects.csv`` of the last night, cut down to a circle."""
    midnight = float(floor(now))
    cells = list(cells_around(cone.ra, cone.dec, cone.radius))
    found = changing.transients(tile, cells, midnight - _TNS_MEMORY, midnight)
    found = _chosen(found, _inside(found.ra, found.dec, cone))
    discovered, magnitude, band = _discoveries(found)
    hosts = {name: z for cell in cells for name, z in _host_redshifts(tile.seed, cell).items()}
    rows = [
        _tns_row(tile.seed, found, i, discovered[i], magnitude[i], str(band[i]), hosts)
        for i in np.argsort(discovered, kind="stable")
        if midnight - _TNS_MEMORY < discovered[i] < midnight and _reported(tile.seed, str(found.ident[i]))
    ]
    return ("\n".join([f'"{_date(midnight)}"', _TNS_HEADER, *rows]) + "\n").encode()


def _chosen(found: changing.Transients, keep: np.ndarray) -> changing.Transients:
    return changing.Transients(*(getattr(found, f.name)[keep] for f in fields(found)))


def _reported(seed: int, name: str) -> bool:
    return uniform("reported", seed, name) < _TNS_SHARE


def _discoveries(found: changing.Transients) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return when (MJD; inf for never), how bright and in which band transients pass the limit."""
    days = np.arange(-40.0, 5.0, 0.5)
    curves = {
        band: np.stack([changing.transient_magnitudes(found, found.mjd_peak + d, band) for d in days])
        for band in "gr"
    }
    bright = np.minimum(curves["g"], curves["r"]) < _TNS_LIMIT
    first, column = bright.argmax(axis=0), np.arange(found.ra.size)
    band = np.where(curves["g"][first, column] < curves["r"][first, column], "g", "r")
    magnitude = np.minimum(curves["g"], curves["r"])[first, column]
    # a survey comes by every other night: up to two days later
    when = found.mjd_peak + days[first] + 2.0 * (found.mjd_peak * 7.0 % 1.0)
    return np.where(bright.any(axis=0), when, np.inf), magnitude, band


def _host_redshifts(seed: int, cell: Cell) -> dict[str, float]:
    _, galaxies = cell_objects(seed, cell)
    return dict(zip(galaxies.ident.tolist(), redshifts(galaxies, seed).tolist(), strict=True))


def _tns_row(
    seed: int,
    found: changing.Transients,
    index: int,
    discovered: float,
    magnitude: float,
    band: str,
    hosts: dict[str, float],
) -> str:
    ident = str(found.ident[index])
    spectrum = (
        found.peak_r[index] < _TNS_CLASSIFIED_LIMIT
        and uniform("classified", seed, ident) < _TNS_CLASSIFIED_SHARE
    )
    number, type_ = _TNS_TYPES[found.kind_name[index]] if spectrum else ("", "")
    redshift = hosts.get(str(found.host[index])) if spectrum else None
    rng = generator("tns", seed, *ident.split("-"))
    east, north = rng.normal(0.0, 0.15, 2) / 3600.0
    dec = found.dec[index] + north
    values = (
        str(int(rng.integers(10**5, 10**6))),
        "SN" if type_.startswith("SN") else "AT",
        _year_name(discovered, seed, ident),
        f"{found.ra[index] + east / np.cos(np.radians(dec)):.8f}",
        f"{dec:.8f}",
        "" if redshift is None else f"{redshift:.5f}",
        number,
        type_,
        "74",
        "ZTF",
        "48",
        "ZTF",
        _date(discovered),
        f"{magnitude:.2f}",
        {"g": "110", "r": "111"}[band],
        f"{band}-ZTF",
        "ZTF (simulated)",
        _date(discovered + 0.3),
        ztf_name(seed, ident, discovered),
        "",
        "",
        _date(discovered + 0.3),
        _date(discovered + 1.0),
    )
    return ",".join(f'"{value}"' for value in values)


def _date(mjd: float) -> str:
    moment = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(seconds=round(mjd * 86400.0))
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _letters(chance: float, count: int) -> str:
    value = int(chance * 26**count)
    return "".join(chr(97 + value // 26**i % 26) for i in reversed(range(count)))


def _year_name(mjd: float, seed: int, ident: str) -> str:
    return f"{_date(mjd)[:4]}{_letters(uniform('tns-name', seed, ident), 4)}"


def ztf_name(seed: int, ident: str, mjd: float) -> str:
    """Return ZTF's name of an object that it first saw in the year of a time: ``ZTF25abcdefg``."""
    return f"ZTF{_date(mjd)[2:4]}a{_letters(uniform('ztf-name', seed, ident), 6)}"


# --- solar system ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class KnownAsteroids:
    """Asteroids with a known orbit, where their ephemerides have them; arrays of shape ``(n,)``."""

    ident: np.ndarray
    """Names in the simulated sky."""

    number: list[str]
    """Number in the catalogue of orbits; ``-`` without one."""

    name: list[str]
    """Name or provisional designation."""

    ra: np.ndarray
    """ICRS degrees."""

    dec: np.ndarray
    """ICRS degrees."""

    error: np.ndarray
    """1-sigma error of the ephemeris, arcsec."""

    magnitude: np.ndarray
    """Predicted V magnitude."""

    rate: np.ndarray
    """Arcsec per minute."""

    direction: np.ndarray
    """Degrees from north through east."""


def known_asteroids(tile: Tile, mjd: float) -> KnownAsteroids:
    """Return the asteroids around a tile whose orbits are known, at a time."""
    found = changing.asteroids(tile, cells_around(tile.ra, tile.dec, tile.radius), floor(mjd), mjd)
    near = found.rate > 2.0
    chance = np.array([uniform("orbit", tile.seed, str(name)) for name in found.ident])
    known = np.flatnonzero(chance < np.where(near, _KNOWN_NEAR_EARTH, _KNOWN_MAIN_BELT))
    names = [str(name) for name in found.ident[known]]
    draws = [generator("ephemeris", tile.seed, *name.split("-")) for name in names]
    noise = np.array([rng.normal(size=3) for rng in draws]).reshape(-1, 3)
    error = 0.05 * np.exp(0.8 * np.array([rng.normal() for rng in draws])) * np.where(near[known], 4.0, 1.0)
    dec = found.dec[known] + error * noise[:, 0] / 3600.0
    numbered = [rng.random() < 0.85 for rng in draws]
    return KnownAsteroids(
        ident=found.ident[known],
        number=[
            str(rng.integers(1000, 700000)) if is_ else "-" for rng, is_ in zip(draws, numbered, strict=True)
        ],
        name=[_provisional(rng) for rng in draws],
        ra=found.ra[known] + error * noise[:, 1] / 3600.0 / np.cos(np.radians(dec)),
        dec=dec,
        error=error,
        magnitude=found.mag_r[known] + 0.2 + 0.15 * noise[:, 2],
        rate=found.rate[known],
        direction=found.direction[known],
    )


def _provisional(rng: np.random.Generator) -> str:
    """Return a provisional designation: year, half-month, order in it (``2003 TE366``)."""
    half, order = rng.choice(list("ABCDEFGHJKLMNOPQRSTUVWXY")), rng.choice(list("ABCDEFGHJKLMNOPQRSTUVWXYZ"))
    return f"{rng.integers(1990, 2024)} {half}{order}{rng.integers(1, 400)}"


_SKYBOT_FIELDS = (
    ("Num", "char", ""),
    ("Name", "char", ""),
    ("RA", "char", "h:m:s"),
    ("DEC", "char", "d:m:s"),
    ("Class", "char", ""),
    ("Mv", "float", ""),
    ("ErrPos", "float", "arcsec"),
    ("d", "float", "arcsec"),
    ("dRAcosDec", "double", "arcsec/h"),
    ("dDEC", "double", "arcsec/h"),
    ("Dgeo", "double", "AU"),
    ("Dhelio", "double", "AU"),
)


def _skybot(tile: Tile, cone: Cone) -> bytes:
    """Return SkyBoT's answer for the time of the cone."""
    found = known_asteroids(tile, cone.mjd or 0.0)
    rows = np.flatnonzero(_inside(found.ra, found.dec, cone))
    angle = np.radians(found.direction[rows])
    near = found.rate[rows] > 2.0
    away = 3600.0 * np.hypot(
        (found.ra[rows] - cone.ra) * np.cos(np.radians(cone.dec)), found.dec[rows] - cone.dec
    )
    columns = [
        [found.number[i] for i in rows],
        [found.name[i] for i in rows],
        [_sexagesimal(found.ra[i] % 360.0 / 15.0, 4) for i in rows],
        [("-" if found.dec[i] < 0 else "+") + _sexagesimal(abs(found.dec[i]), 3) for i in rows],
        ["NEA>Apollo" if n else "MB>Middle" for n in near],
        _texts(found.magnitude[rows], 1),
        _texts(found.error[rows], 3),
        _texts(away, 3),
        _texts(60.0 * found.rate[rows] * np.sin(angle), 4),
        _texts(60.0 * found.rate[rows] * np.cos(angle), 4),
        _texts(np.where(near, 0.3, 1.7), 9),
        _texts(np.where(near, 1.2, 2.6), 9),
    ]
    infos = {"Ticket": "0", "-c": f"{cone.ra}{cone.dec:+}", "Epoch": f"{(cone.mjd or 0.0) + 2400000.5}"}
    return votable(_SKYBOT_FIELDS, columns, infos=infos)


def _sexagesimal(value: float, digits: int) -> str:
    """Return ``dd mm ss.sss`` of a number that is not negative."""
    total = round(value * 3600 * 10**digits)
    seconds, whole = total % (60 * 10**digits), total // (60 * 10**digits)
    return f"{whole // 60:02d} {whole % 60:02d} {seconds / 10**digits:0{3 + digits}.{digits}f}"
