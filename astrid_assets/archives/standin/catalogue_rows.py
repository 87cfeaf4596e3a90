"""Rows of catalogues as their services write them, made from what the simulated sky holds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from astrid_assets.archives.catalogues.cones import inside
from astrid_assets.archives.protocol import Cone
from astrid_assets.archives.simulated.seeds import generator
from astrid_assets.archives.simulated.sky import cell_objects, cells_around, star_positions
from astrid_assets.archives.standin.catalogue_tables import separation_arcsec

__all__ = [
    "BTS_HEAD",
    "NED_FIELDS",
    "PS1_TYPES",
    "VIZIER_PS1",
    "bts_row",
    "ned_row",
    "ps1_rows",
    "tns_object",
    "tns_search",
    "vizier_ps1_row",
    "with_skybot_identifiers",
    "zipped",
]

_PS1_MJD = 56200.0  # mean epoch of a position of Pan-STARRS
_PS1_LIMIT = 22.0  # r magnitude of objects seen often

# --- Pan-STARRS -----------------------------------------------------------------------------------

PS1_TYPES = {
    "objID": "long",
    "raMean": "double",
    "decMean": "double",
    "raMeanErr": "double",
    "decMeanErr": "double",
    "epochMean": "double",
    "nDetections": "short",
    "rMeanPSFMag": "double",
    "iMeanPSFMag": "double",
    "iMeanKronMag": "double",
}

VIZIER_PS1 = (
    ("objID", "long", ""),
    ("RAJ2000", "double", "deg"),
    ("DEJ2000", "double", "deg"),
    ("e_RAJ2000", "double", "arcsec"),
    ("e_DEJ2000", "double", "arcsec"),
    ("Epoch", "double", "d"),
    ("rmag", "double", "mag"),
    ("imag", "double", "mag"),
    ("iKmag", "double", "mag"),
)


def ps1_rows(seed: int, cone: Cone) -> list[dict[str, Any]]:
    """Return the stars and galaxies that Pan-STARRS knows in a circle, with its errors."""
    rows: list[dict[str, Any]] = []
    for cell in cells_around(cone.ra, cone.dec, cone.radius):
        stars, galaxies = cell_objects(seed, cell)
        rng = generator("ps1-catalogue", seed, cell.row, cell.column)
        ra, dec = star_positions(stars, _PS1_MJD)
        mag = np.concatenate([stars.mag_r, galaxies.mag_r])
        at = np.concatenate([ra, galaxies.ra]), np.concatenate([dec, galaxies.dec])
        extended = np.arange(mag.size) >= stars.ra.size
        noise, number = rng.normal(size=(2, mag.size)), rng.integers(10**16, 10**17, mag.size)
        error = np.hypot(0.005, 0.03 * 10 ** (0.2 * (mag - 21.0)))
        psf = mag - 0.2 + 0.005 * noise[0]
        kron = psf - np.where(extended, 0.3, 0.0) + 0.01 * noise[1]
        rows += [
            {
                "objID": str(number[i]),
                "raMean": float(at[0][i]),
                "decMean": float(at[1][i]),
                "raMeanErr": float(error[i]),
                "decMeanErr": float(error[i]),
                "epochMean": _PS1_MJD,
                "nDetections": 40,
                "rMeanPSFMag": float(mag[i]),
                "iMeanPSFMag": float(psf[i]),
                "iMeanKronMag": float(kron[i]) if mag[i] < _PS1_LIMIT - 0.5 else -999.0,
            }
            for i in np.flatnonzero((mag < _PS1_LIMIT) & inside(*at, cone))
        ]
    return rows


def vizier_ps1_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a row as VizieR has it: nothing for what is missing."""
    return tuple("" if row[name] == -999.0 else str(row[name]) for name in PS1_TYPES if name != "nDetections")


# --- NED ------------------------------------------------------------------------------------------

NED_FIELDS = (
    ("No.", "int", ""),
    ("Object Name", "char", ""),
    ("RA", "double", "degrees"),
    ("DEC", "double", "degrees"),
    ("Type", "char", ""),
    ("Velocity", "double", "km/sec"),
    ("Redshift", "double", ""),
    ("Redshift Flag", "char", ""),
    ("Magnitude and Filter", "char", ""),
    ("Separation", "double", "arcmin"),
)


def ned_row(number: int, row: Mapping[str, str], cone: Cone) -> tuple[str, ...]:
    """Return a galaxy of SkyServer as a row of NED."""
    ra, dec = float(row["ra"]), float(row["dec"])
    away = separation_arcsec(np.array([ra]), np.array([dec]), cone)[0] / 60.0
    z = float(row["z"])
    name = f"SDSS J{_sexagesimal(ra / 15.0, 2)}{_signed(dec)}".replace(":", "")
    velocity = f"{299792.458 * z:.0f}"
    return (
        str(number),
        name,
        f"{ra:.6f}",
        f"{dec:.6f}",
        "G",
        velocity,
        f"{z:.6f}",
        "SPEC",
        f"{float(row['modelMag_r']):.1f}r",
        f"{away:.3f}",
    )


# --- transients -----------------------------------------------------------------------------------

BTS_HEAD = (
    *("ZTFID", "IAUID", "RA", "Dec", "peakt", "peakfilt", "peakmag", "peakabs"),
    *("duration", "rise", "fade", "type", "redshift", "b", "A_V"),
)


def tns_search(objects: Sequence[Mapping[str, str]], data: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what a search of the API of TNS finds among objects of the daily table."""
    per = {"arcsec": 3600.0, "arcmin": 60.0, "deg": 1.0}[data.get("units", "arcsec")]
    cone = Cone(float(data["ra"]), float(data["dec"]), float(data["radius"]) / per)
    return [
        {"objname": row["name"], "prefix": row["name_prefix"], "objid": row["objid"]}
        for row in objects
        if inside(np.array([float(row["ra"])]), np.array([float(row["declination"])]), cone)[0]
    ]


def tns_object(objects: Sequence[Mapping[str, str]], data: Mapping[str, str]) -> dict[str, Any] | None:
    """Return an object of the daily table as the API of TNS shows it; None where there is none."""
    row = next((row for row in objects if row["name"] == data.get("objname")), None)
    if row is None:
        return None
    return {
        "objname": row["name"],
        "name_prefix": row["name_prefix"],
        "objid": int(row["objid"]),
        "object_type": {"name": row["type"] or None, "id": int(row["typeid"] or 0) or None},
        "redshift": float(row["redshift"]) if row["redshift"] else None,
        "radeg": float(row["ra"]),
        "decdeg": float(row["declination"]),
        "discoverydate": row["discoverydate"],
        "discoverymag": float(row["discoverymag"]),
        "discmagfilter": {"id": int(row["discmagfilter"]), "name": row["filter"]},
        "reporting_group": {"group_name": row["reporting_group"]},
        "internal_names": row["internal_names"],
    }


def bts_row(row: Mapping[str, str]) -> list[str]:
    """Return an object of the daily table of TNS as a row of the Bright Transient Survey."""
    ra, dec = float(row["ra"]), float(row["declination"])
    peak = f"{float(row['discoverymag']) - 0.8:.4f}"
    where = [_sexagesimal(ra / 15.0, 2), _signed(dec)]
    iau = f"{row['name_prefix']}{row['name']}"
    head = [row["internal_names"], iau, *where, "2950.00", "r", peak]
    return [*head, "-", ">30", ">10", ">20", row["type"] or "-", row["redshift"] or "-", "45.0", "0.05"]


def _sexagesimal(value: float, digits: int) -> str:
    total = round(value * 3600 * 10**digits)
    seconds, whole = total % (60 * 10**digits), total // (60 * 10**digits)
    return f"{whole // 60:02d}:{whole % 60:02d}:{seconds / 10**digits:0{3 + digits}.{digits}f}"


def _signed(dec: float) -> str:
    return ("-" if dec < 0 else "+") + _sexagesimal(abs(dec), 1)


def zipped(name: str, content: bytes) -> bytes:
    """Return a zip archive with one file; the same content gives the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return stream.getvalue()


# --- SkyBoT ---------------------------------------------------------------------------------------

_SKYBOT_IDENTIFIERS = {
    "Num": "num",
    "Name": "name",
    "RA": "ra",
    "DEC": "de",
    "Class": "class",
    "Mv": "magV",
    "ErrPos": "errpos",
    "d": "angdist",
    "dRAcosDec": "dracosdec",
    "dDEC": "ddec",
    "Dgeo": "dgeo",
    "Dhelio": "dhelio",
}
"""Identifier that SkyBoT gives each column beside its name; astroquery reads columns by these."""


def with_skybot_identifiers(content: bytes) -> bytes:
    """Return a VOTable with the identifiers of its columns."""
    for name, identifier in _SKYBOT_IDENTIFIERS.items():
        old, new = f'<FIELD name="{name}"', f'<FIELD ID="{identifier}" name="{name}"'
        content = content.replace(old.encode(), new.encode())
    return content
