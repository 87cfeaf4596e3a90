"""`IrsaZtfArchive`: images of the Zwicky Transient Facility at IRSA behind the protocol of all archives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from astrid_assets.archives.irsa_ztf.cutouts import NO_OVERLAP, Box, Piece, check_pieces, piece
from astrid_assets.archives.irsa_ztf.light_curves import light_curve_request, parse_light_curves
from astrid_assets.archives.irsa_ztf.names import PRODUCTS, REFERENCE_FILES, SCIENCE_FILES
from astrid_assets.archives.irsa_ztf.search import (
    ReferenceRow,
    ScienceRow,
    parse_references,
    parse_science,
    reference_request,
    science_request,
)
from astrid_assets.archives.protocol import Cone, Download, Exposure
from astrid_assets.archives.transport.request import Request
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.archives.transport import Transport
    from astrid_assets.fields import Field, IrsaZtfOptions

__all__ = ["IrsaZtfArchive"]

_CALIBRATION = "irsa"
"""All of ZTF's images are calibrated in one way, against PS1; versions differ by less than the scatter."""

_MISSING = 404
"""Status of a file that is not there."""

_SCHEME = "irsa-ztf"

_NOT_CUT = ("psf", "difference")
"""Files that come whole: a PSF has no place on the sky, and compressed files are not known to be cut."""

_PIXEL_BYTES = {"image": 4, "mask": 2, "noise": 4, "coverage": 4}
_HEADER_BYTES = 23_040
"""Bytes of a ZTF header, about: 200 to 280 cards."""

_DIFFERENCE_BYTES = 10_000_000
"""Bytes of a compressed difference image, about (four products of an exposure have 27 MB)."""


class IrsaZtfArchive:
    """ZTF's science and reference images at IRSA.

    Parameters
    ----------
    transport
        What moves requests and answers.

    clock
        The present as MJD (UTC), for what is not public yet; None takes `astrid_assets.clock.now_mjd`.
    """

    name = "irsa_ztf"

    def __init__(self, transport: Transport, *, clock: float | None = None) -> None:
        self._transport = transport
        self._clock = clock

    def search(self, sky_field: Field) -> list[Exposure]:
        """Return exposures of the field's windows, and the references of its quadrants and bands.

        An exposure beyond the cuts of ``irsa_ztf`` in the field's options, or not public yet, has its
        problem. None where ZTF has none of the field's bands.

        Raises
        ------
        ArchiveUnavailableError, BadAnswerError
            As for all archives; a page that reports a fault never counts as "nothing there".
        """
        options, science, references = (
            sky_field.irsa_ztf,
            science_request(sky_field),
            reference_request(sky_field),
        )
        if science is None or references is None:
            return []
        box, now = _box(sky_field), self._now()
        rows = [
            *(_science_exposure(r, options, box, now) for r in parse_science(self._ask(science))),
            *(_reference_exposure(r, options, box) for r in parse_references(self._ask(references))),
        ]
        # of two versions of a file the newer one comes first, and is taken
        return sorted(rows, key=lambda e: (_sortable(e.mjd_start), e.exposure_id, -_version(e)))

    def download(self, exposure: Exposure, folder: Path) -> Download:
        """Fetch the files of an exposure or a reference, under their own names.

        Roles: ``image`` and for an exposure ``mask``, ``psf`` and, where asked for and there,
        ``difference``; for a reference ``noise`` and ``coverage``.

        Raises
        ------
        NoCoverageError
            A file is no longer there, or the cutout lies off the image.

        ArchiveUnavailableError, BadAnswerError
            As for all archives; a cutout that is shorter than its image allows is a bad answer.
        """
        paths, box = _parse(exposure.url)
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, Path] = {}
        sums: dict[str, str] = {}
        for role, path in paths.items():
            target = folder / path.rsplit("/", 1)[1]
            try:
                fetched = self._transport.download(_file_request(role, path, box), target)
            except NoCoverageError:
                if role != "difference":
                    raise
                continue  # exposures that were processed before their reference have none: normal
            files[role], sums[role] = fetched.path, fetched.sha256
        if box is not None:
            check_pieces([p for role, p in files.items() if role not in _NOT_CUT], exposure.footprint)
        return Download(files, sums)

    def light_curves(
        self, cone: Cone, *, bands: tuple[str, ...] = (), release: str | None = None
    ) -> pa.Table:
        """Return the photometry of the sources in a circle, from IRSA's catalogue.

        Parameters
        ----------
        cone
            Circle, at most 600 arcsec.

        bands
            Canonical names; empty takes all.

        release
            Collection such as ``ztf_dr24``; None takes the newest.
        """
        request = light_curve_request(cone, bands=bands, release=release)
        return parse_light_curves(self._ask(request))

    def _ask(self, request: Request) -> bytes:
        return self._transport.ask(request).content

    def _now(self) -> float:
        from astrid_assets.clock import now_mjd

        return now_mjd() if self._clock is None else self._clock


def _box(sky_field: Field) -> Box | None:
    options = sky_field.irsa_ztf
    if not options.cutouts:
        return None
    side = options.cutout_arcmin * 60.0 if options.cutout_arcmin else 2.0 * sky_field.radius * 3600.0
    return Box(sky_field.ra, sky_field.dec, side)


def _sortable(mjd: float) -> float:
    return mjd if math.isfinite(mjd) else -math.inf


def _version(exposure: Exposure) -> int:
    return int(exposure.revision.split("-")[0])


# --- rows ---------------------------------------------------------------------------------------


def _science_exposure(row: ScienceRow, options: IrsaZtfOptions, box: Box | None, now: float) -> Exposure:
    start = math.nan if row.mjd_start is None else row.mjd_start
    length = (row.exptime or 0.0) / 86400.0
    paths = {
        role: row.quadrant.science_path(row.filefracday, suffix)
        for role, suffix in SCIENCE_FILES.items()
        if role != "difference" or options.with_difference
    }
    problem = next(_science_problems(row, options, now), None)
    return Exposure(
        exposure_id=row.quadrant.science_name(row.filefracday),
        product="exposure",
        mjd_start=start,
        mjd_mid=start + length / 2.0,
        mjd_end=start + length,
        exptime=row.exptime,
        seeing=row.seeing,
        limiting_magnitude=row.limiting_magnitude,
        airmass=row.airmass,
        **_common(row, paths, box, row.pid, problem),
    )


def _reference_exposure(row: ReferenceRow, options: IrsaZtfOptions, box: Box | None) -> Exposure:
    start, end = (math.nan if t is None else t for t in (row.mjd_start, row.mjd_end))
    paths = {role: row.quadrant.reference_path(suffix) for role, suffix in REFERENCE_FILES.items()}
    return Exposure(
        exposure_id=f"{row.quadrant.reference_name}_ref",
        product="stack",
        mjd_start=start,
        mjd_mid=(start + end) / 2.0,
        mjd_end=end,
        n_exposures=row.n_frames,
        limiting_magnitude=row.limiting_magnitude,
        **_common(row, paths, box, row.rfid, _infobits_problem(row.infobits, options)),
    )


def _common(
    row: ScienceRow | ReferenceRow,
    paths: Mapping[str, str],
    box: Box | None,
    version: int | None,
    problem: str | None,
) -> dict[str, object]:
    """Return what rows of both kinds have alike."""
    from astrid_assets.surveys import load_profile

    profile = load_profile("ztf")
    band, held, fault = profile.band(row.quadrant.filtercode), *_held(row, box)
    if band is None:
        fault = f"unknown filter: {row.quadrant.filtercode}"
    asked = "" if box is None else f"-{box.ra:.6f}{box.dec:+.6f}x{box.side:.1f}"
    return {
        "archive": IrsaZtfArchive.name,
        "survey": profile.name,
        "detector_type": profile.detector_type,
        "band": band or "",
        "calibration": _CALIBRATION,
        "detector": row.quadrant.detector,
        "footprint": held.footprint,
        "url": _locator(paths, box),
        "revision": f"{version or 0}{asked}",
        "bytes": sum(_bytes(role, held.n_pixels) for role in paths),
        "problem": problem or fault,
    }


def _held(row: ScienceRow | ReferenceRow, box: Box | None) -> tuple[Piece, str | None]:
    """Return what can be had of an image, and what is wrong with it."""
    if row.grid is None or not row.footprint:
        return Piece(row.footprint, 0), "no world coordinates in the archive's row"
    held = piece(row.grid, row.footprint, box)
    if held is None:
        return Piece(row.footprint, 0), "cutout off the image: the field is beside it"
    return held, None


def _bytes(role: str, n_pixels: int) -> int:
    if role == "difference":
        return _DIFFERENCE_BYTES
    return _HEADER_BYTES + _PIXEL_BYTES.get(role, 0) * n_pixels


def _science_problems(row: ScienceRow, options: IrsaZtfOptions, now: float) -> Iterator[str]:
    if row.imgtypecode not in ("", "o"):
        yield f"no image of the sky: type {row.imgtypecode}"
    if not row.is_public(now):
        yield f"not public: group {row.group}" + (
            f", until MJD {row.published_mjd:.1f}" * bool(row.published_mjd)
        )
    infobits = _infobits_problem(row.infobits, options)
    if infobits:
        yield infobits
    if row.seeing is not None and row.seeing > options.seeing_max:
        yield f"seeing too bad: {row.seeing:.2f} > {options.seeing_max:g} arcsec"
    if row.limiting_magnitude is not None and row.limiting_magnitude < options.limiting_magnitude_min:
        yield f"not deep enough: {row.limiting_magnitude:.2f} < {options.limiting_magnitude_min:g} AB mag"


def _infobits_problem(infobits: int | None, options: IrsaZtfOptions) -> str | None:
    if infobits is None or infobits <= options.infobits_max:
        return None
    return f"flagged by the survey: infobits {infobits} > {options.infobits_max}"


# --- locators and files -------------------------------------------------------------------------


def _locator(paths: Mapping[str, str], box: Box | None) -> str:
    """Return the paths by role and the box: all that a download needs."""
    place = () if box is None else (("ra", box.ra), ("dec", box.dec), ("side", box.side))
    files = [(role, path.removeprefix(PRODUCTS)) for role, path in paths.items()]
    return f"{_SCHEME}:?{urlencode([*files, *place], quote_via=quote, safe='/')}"


def _parse(url: str) -> tuple[dict[str, str], Box | None]:
    parts = urlsplit(url)
    values = {name: found[0] for name, found in parse_qs(parts.query).items()}
    if parts.scheme != _SCHEME or "image" not in values:
        raise BadAnswerError(f"{url!r} is no locator of IRSA's ZTF images")
    place = [float(values.pop(name)) for name in ("ra", "dec", "side") if name in values]
    return {role: PRODUCTS + path for role, path in values.items()}, Box(*place) if place else None


def _file_request(role: str, path: str, box: Box | None) -> Request:
    cut = box is not None and role not in _NOT_CUT
    return Request(
        service="irsa",
        path=path,
        kind="cutout" if cut else "file",
        expects="fits",
        query=box.query if cut else (),
        nothing=frozenset({_MISSING, NO_OVERLAP} if cut else {_MISSING}),
    )
