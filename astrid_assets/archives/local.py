"""Archive ``local``: a folder of FITS files, indexed by their headers.

A search opens every file that matches the field's pattern, reads headers only, and returns one
row for each image. Companions (masks, weights, noise, PSFs) belong to their image and are no
rows of their own; neither are published differences and catalogues that the profile names.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.protocol import Download, Exposure
from astrid_assets.errors import BadAnswerError, ConfigurationError, ImageError, NoCoverageError

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from astrid_assets.fields import Field, LocalOptions
    from astrid_assets.images.headers import Facts
    from astrid_assets.surveys import Profile

__all__ = ["LocalArchive"]

_HEAD_BYTES = 64 * 1024  # enough for the headers that are edited in place without changing the size
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class _Indexed:
    """One file with what its headers tell."""

    path: Path
    profile: Profile
    told: Facts
    header: Mapping[str, Any]
    shape: tuple[int, int]
    wcs: WCS | None
    companions: Mapping[str, Path]


class LocalArchive:
    """A folder of FITS files."""

    name = "local"

    def search(self, sky_field: Field) -> Sequence[Exposure]:
        """Return one row for each image in the field's folder, wherever and whenever it was taken.

        Parameters
        ----------
        sky_field
            Field with options `astrid_assets.fields.LocalOptions`.

        Returns
        -------
        sequence of Exposure
            In order of file name. A file that cannot be used has its ``problem``.

        Raises
        ------
        ConfigurationError
            The field has no folder, or the folder is not there: waiting does not help.
        """
        options = _options(sky_field)
        files = sorted(
            p for p in options.path.rglob(options.pattern) if p.is_file() and not _hidden(p, options)
        )
        found = [_index(path, options) for path in files]
        owned = {c for entry in found if isinstance(entry, _Indexed) for c in entry.companions.values()}
        rows = [(path, entry) for path, entry in zip(files, found, strict=True) if path not in owned]
        return [
            _row(entry, options) if isinstance(entry, _Indexed) else _unusable(path, entry, options)
            for path, entry in rows
            if entry is not None
        ]

    def download(self, exposure: Exposure, folder: Path) -> Download:
        """Copy an image and its companions, and check that they are whole.

        Parameters
        ----------
        exposure
            A row of `search`.

        folder
            Where the files go, under their own names.

        Raises
        ------
        NoCoverageError
            The file is no longer there.

        BadAnswerError
            A file is cut off, or changed since the search.
        """
        from astrid_assets.images.companions import find_companions
        from astrid_assets.images.fits import verify_fits
        from astrid_assets.surveys import load_profile

        source = Path(exposure.url)
        if not source.is_file():
            msg = f"{source} is no longer there; search again"
            raise NoCoverageError(msg)
        companions = find_companions(source, load_profile(exposure.survey))
        if _revision(source, companions) != exposure.revision:
            msg = f"{source} or a companion has changed since it was indexed; search again"
            raise BadAnswerError(msg)
        sources = {"image": source, **companions}
        folder.mkdir(parents=True, exist_ok=True)
        files, sums = {}, {}
        for role, path in sources.items():
            files[role] = folder / path.name
            sums[role] = _copy(path, files[role])
            try:
                verify_fits(files[role])
            except ImageError as error:
                raise BadAnswerError(str(error)) from error
        return Download(files, sums)


def _options(sky_field: Field) -> LocalOptions:
    from astrid_assets.fields import fields_path

    options = sky_field.local
    if options is None:
        msg = (
            f"field {sky_field.name} names archive local, but has no folder; add local.folder in fields.yaml"
        )
        raise ConfigurationError(msg)
    if not options.path.is_dir():
        where = fields_path()
        msg = f"field {sky_field.name}: folder {options.path} is not there; mend local.folder in {where}"
        raise ConfigurationError(msg)
    return options


def _hidden(path: Path, options: LocalOptions) -> bool:
    return any(part.startswith(".") for part in path.relative_to(options.path).parts)


# --- indexing -----------------------------------------------------------------------------------


def _index(path: Path, options: LocalOptions) -> _Indexed | str | None:
    """Return what the headers of a file tell, a reason why it is no use, or None if it is no exposure."""
    from astrid_assets.images.fits import open_fits

    try:
        with open_fits(path) as hdus:
            return _index_open(hdus, path, options)
    except ImageError as error:
        return str(error).removeprefix(f"{path.name}: ")


def _index_open(hdus: Any, path: Path, options: LocalOptions) -> _Indexed | None:
    from astrid_assets.images.celestial import celestial_wcs, pixel_solid_angle
    from astrid_assets.images.companions import find_companions
    from astrid_assets.images.foreign import locate
    from astrid_assets.images.headers import facts
    from astrid_assets.surveys import guess_profile

    # a name that is no exposure's is left out before anybody asks what is in the file
    if not guess_profile(hdus[0].header, path.name).is_image(path.name):
        return None
    place = locate(hdus, path.name, survey=options.survey)
    if not place.profile.is_image(path.name):
        return None
    wcs, reason = celestial_wcs(hdus[place.index].header, place.shape, hdus=hdus)
    assume = options.assume.model_dump(exclude={"aligned"})
    told = facts(place.header, place.profile, pixel_area=pixel_solid_angle(wcs), assume=assume)
    if reason is not None:
        told.warnings.append(reason)
    return _Indexed(
        path, place.profile, told, dict(place.header), place.shape, wcs, find_companions(path, place.profile)
    )


# --- rows ---------------------------------------------------------------------------------------


def _exposure_id(path: Path, options: LocalOptions) -> str:
    """Return the file's name without suffix, with its folders in front, fit for a file name."""
    relative = path.relative_to(options.path)
    stem = re.split(r"\.fi?ts?\b", relative.name, maxsplit=1, flags=re.IGNORECASE)[0]
    text = "+".join([*relative.parts[:-1], stem])
    safe = re.sub(r"[^A-Za-z0-9_.+=-]", "_", text)
    if len(safe) <= 150:
        return safe
    return f"{safe[-130:]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _revision(path: Path, companions: Mapping[str, Path]) -> str:
    """Return a hash of size, time and head of the files: it changes when one is written anew."""
    digest = hashlib.sha256()
    for role, file in sorted({"image": path, **companions}.items()):
        status = file.stat()
        digest.update(f"{role} {file.name} {status.st_size} {status.st_mtime_ns} ".encode())
        with file.open("rb") as handle:
            digest.update(handle.read(_HEAD_BYTES))
    return digest.hexdigest()[:32]


def _row(entry: _Indexed, options: LocalOptions) -> Exposure:
    """Return the row of an image."""
    from astrid_assets.images.headers import Times, detector_type, is_stack

    values = entry.told.values
    times = Times(values["mjd_start"], values["mjd_mid"], values["mjd_end"])
    stack = is_stack(entry.header, entry.profile, entry.path.name, times)
    zeropoint = values["zeropoint"]
    return Exposure(
        exposure_id=_exposure_id(entry.path, options),
        archive=LocalArchive.name,
        survey=entry.profile.name,
        detector_type=detector_type(entry.header, entry.profile),
        band=values["band"] or "",
        calibration=entry.told.calibration,
        product="stack" if stack else "exposure",
        mjd_start=_known(times.start),
        mjd_mid=_known(times.mid),
        mjd_end=_known(times.end),
        footprint=_footprint(entry),
        url=str(entry.path),
        revision=_revision(entry.path, entry.companions),
        bytes=sum(p.stat().st_size for p in (entry.path, *entry.companions.values())),
        n_exposures=values["n_exposures"],
        detector=values["detector"],
        exptime=values["exptime"],
        seeing=_seeing(entry),
        airmass=values["airmass"],
        zeropoint=None if zeropoint is None else zeropoint.magnitude,
        problem=_problem(entry, options),
    )


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _footprint(entry: _Indexed) -> tuple[tuple[float, float], ...]:
    """Return the outer corners of the corner pixels on the sky; empty without WCS."""
    if entry.wcs is None:
        return ()
    ny, nx = entry.shape
    ra, dec = entry.wcs.all_pix2world([-0.5, nx - 0.5, nx - 0.5, -0.5], [-0.5, -0.5, ny - 0.5, ny - 0.5], 0)
    return tuple((float(a) % 360.0, float(d)) for a, d in zip(ra, dec, strict=True))


def _seeing(entry: _Indexed) -> float | None:
    """Return the seeing in arcsec, if it is plausible for the survey."""
    from astrid_assets.images.celestial import pixel_solid_angle

    value = entry.told.seeing
    if value is None:
        return None
    if entry.profile.seeing_unit == "pixel":
        area = pixel_solid_angle(entry.wcs)
        if area is None:
            return None
        value *= math.degrees(math.sqrt(area)) * 3600.0
    low, high = entry.profile.limits.get("seeing", (0.0, math.inf))
    return value if low <= value <= high else None


def _problem(entry: _Indexed, options: LocalOptions) -> str | None:
    """Return what is missing that neither the header nor the field states."""
    values = entry.told.values
    if entry.profile.photographic:
        return "photographic plate: context only, never differenced"
    if entry.wcs is None and not options.assume.aligned:
        return f"{entry.told.warnings[-1]}; state local.assume.aligned if the images share one grid"
    if values["mjd_mid"] is None:
        return "no time of observation in the header; state local.assume.mjd"
    if values["band"] is None:
        return "no known filter in the header; state local.assume.band"
    return _scale_problem(entry)


def _scale_problem(entry: _Indexed) -> str | None:
    """Return a remark if the pixel scale cannot be that of the survey."""
    from astrid_assets.images.celestial import pixel_solid_angle

    area, limits = pixel_solid_angle(entry.wcs), entry.profile.limits.get("pixel_scale")
    if area is None or limits is None:
        return None
    scale = math.degrees(math.sqrt(area)) * 3600.0
    if limits[0] <= scale <= limits[1]:
        return None
    return (
        f"pixel scale {scale:.4g} arcsec is not that of {entry.profile.name} ({limits[0]:g} to {limits[1]:g})"
    )


def _unusable(path: Path, reason: str, options: LocalOptions) -> Exposure:
    """Return the row of a file that holds no usable image."""
    return Exposure(
        exposure_id=_exposure_id(path, options),
        archive=LocalArchive.name,
        survey=options.survey or "generic",
        detector_type="",
        band="",
        calibration="",
        product="exposure",
        mjd_start=math.nan,
        mjd_mid=math.nan,
        mjd_end=math.nan,
        footprint=(),
        url=str(path),
        revision=_revision(path, {}),
        bytes=path.stat().st_size,
        problem=reason,
    )


# --- copying ------------------------------------------------------------------------------------


def _copy(source: Path, target: Path) -> str:
    """Copy a file and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
    shutil.copystat(source, target)
    return digest.hexdigest()
