"""What the missions in MAST are to this platform: which profile reads them, which rows are images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrid_assets.fields import Field
    from astrid_assets.surveys import Profile

__all__ = ["MISSIONS", "Mission", "band_of", "detector_type_of", "missions_of"]

NIRCAM_SHORT_MAX = 2400.0
"""Wavelength in nm below which a NIRCam filter sits in the short channel (JWST User Documentation,
"NIRCam Filters": short 0.6 to 2.3 um, long 2.4 to 5.0 um)."""

_CLEAR = re.compile(r"CLEAR(\d?[LSP]?)?|NONE|N/A|OPEN", re.IGNORECASE)
"""Positions of a filter wheel without a filter: ``CLEAR`` (JWST), ``CLEAR1L``, ``CLEAR2S`` (ACS)."""

_BLOCKERS = frozenset({"F150W2", "F322W2"})
"""Wide NIRCam filters that only keep other light from a narrower one in the pupil wheel (F162M, F164N,
F323N); the narrower one is the band (JWST User Documentation, "NIRCam Filters")."""


@dataclass(frozen=True)
class Mission:
    """A collection of MAST (``obs_collection``)."""

    profiles: Mapping[str, str] = field(default_factory=dict)
    """Survey profile by the part of ``instrument_name`` before the slash."""

    types: tuple[str, ...] = ("image",)
    """``dataproduct_type`` of its images."""

    project: str | None = None
    """Project whose rows are taken, where another has the same exposures once more; None takes all."""

    elsewhere: str | None = None
    """Why none of its rows is an exposure of this archive, and what to use."""


MISSIONS: Mapping[str, Mission] = {
    # project HAP (Hubble Advanced Products) drizzles the visits of project HST once more
    "HST": Mission(profiles={"ACS": "hst", "WFC3": "hst"}, project="HST"),
    "JWST": Mission(profiles={"NIRCAM": "jwst-nircam"}),
    "TESS": Mission(
        profiles={"TESS": "tess", "PHOTOMETER": "tess"},
        elsewhere="a sector is one row for thousands of full frames: TESScut has cutouts as cubes",
    ),
    "PS1": Mission(profiles={"GPC1": "ps1"}, elsewhere="whole skycells with asinh fluxes: use archive ps1"),
    "GALEX": Mission(profiles={"GALEX": "galex"}),
    "SWIFT": Mission(profiles={"UVOT": "swift-uvot"}, types=("image", "cube")),
}
"""Missions by ``obs_collection``; when they observed is in ``archives/availability.toml``. MAST calls the
multi-extension images of UVOT cubes (astroquery's documentation shows such rows)."""


def missions_of(sky_field: Field) -> tuple[str, ...]:
    """Return the field's missions whose years can give it a pair, in the field's order.

    Parameters
    ----------
    sky_field
        Field with options `astrid_assets.fields.MastOptions`.
    """
    from astrid_assets.archives.availability import missions, why_nothing
    from astrid_assets.fields import MastOptions

    names = (sky_field.mast or MastOptions()).missions
    return tuple(name for name in names if why_nothing(missions()[name], sky_field) is None)


def band_of(filters: str | None, profile: Profile) -> str | None:
    """Return the canonical band of column ``filters``; None where it is none, or light passes two.

    MAST joins the wheels with a semicolon (``F606W;CLEAR2L``, ``F150W2;F162M``), and pipelines write
    ``F200W-CLEAR``. A name that the profile does not know next to one that it knows is another band
    (``F444W;F470N``).

    Parameters
    ----------
    filters
        Column of the row.

    profile
        Survey profile of the row.
    """
    whole = profile.band(filters or "")
    if whole is not None:
        return whole
    words = [w.strip() for w in re.split(r"[;,/+-]", filters or "") if w.strip()]
    words = [w for w in words if not _CLEAR.fullmatch(w)]
    words = [w for w in words if w.upper() not in _BLOCKERS] or words
    return profile.band(words[0]) if len(words) == 1 else None


def detector_type_of(row: Mapping[str, Any], profile: Profile, band: str | None) -> str:
    """Return the kind of detector, as the header of the file will say it.

    HST's profile adds instrument and detector (``WFC3/UVIS``), that of NIRCam the channel, which MAST does
    not have in a column: it follows from the wavelength.
    """
    words = [profile.detector_type]
    if profile.name == "jwst-nircam" and band is not None:
        wavelength = profile.bands[band].wavelength or 0.0
        words.append("short" if wavelength < NIRCAM_SHORT_MAX else "long")
    elif profile.name == "hst":
        words += str(row.get("instrument_name") or "").split("/")
    return " ".join(words).lower()
