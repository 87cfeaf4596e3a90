"""Archive ``mast``: images of HST, JWST, GALEX and Swift; what it cannot give of TESS and PS1 it says."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrid_assets.archives.mast import portal
from astrid_assets.archives.mast.missions import MISSIONS, Mission, band_of, detector_type_of, missions_of
from astrid_assets.archives.mast.products import Product, choose, product_of
from astrid_assets.archives.protocol import Download, Exposure
from astrid_assets.archives.s_region import region_footprint
from astrid_assets.errors import BadAnswerError, NoCoverageError

if TYPE_CHECKING:
    from astrid_assets.archives.mast.portal import Page, Row
    from astrid_assets.archives.transport import Request, Transport
    from astrid_assets.fields import Field, MastOptions
    from astrid_assets.surveys import Profile

__all__ = ["MastArchive"]

_ID_LENGTH = 200
"""Most characters of an identifier: it becomes a file name."""

_PUBLIC = frozenset({"", "PUBLIC"})
"""Values of ``dataRights`` that let everybody download; old rows have none."""


@dataclass(frozen=True)
class _Candidate:
    """One row of MAST, and the exposure it makes as long as its files are not known."""

    row: Row
    exposure: Exposure
    profile: Profile | None


class MastArchive:
    """Images in MAST.

    Parameters
    ----------
    transport
        The door to the network.
    """

    name = "mast"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(self, sky_field: Field) -> Sequence[Exposure]:
        """Return one row for each image of the field's missions, in order of identifier.

        Rows of calibration levels below the field's are not asked for. A row that is listed several
        times is one exposure; a row that is no use has its ``problem``.

        Parameters
        ----------
        sky_field
            Field with options `astrid_assets.fields.MastOptions`.

        Raises
        ------
        ArchiveUnavailableError, BadAnswerError
            As for the network; a page that is missing is a `BadAnswerError`, never a shorter list.
        """
        return self._exposures(sky_field, ())

    def released_since(self, sky_field: Field, mjd: float) -> Sequence[Exposure]:
        """Return the rows of `search` that became public, or were released anew, after a time.

        Parameters
        ----------
        sky_field
            The field.

        mjd
            The time, MJD (UTC), compared with ``t_obs_release``.

        Raises
        ------
        ArchiveUnavailableError, BadAnswerError
            As `search`.
        """
        from astrid_assets.clock import now_mjd

        return self._exposures(sky_field, (portal.between("t_obs_release", mjd, now_mjd()),))

    def count(self, sky_field: Field) -> int:
        """Return how many rows MAST has for a field, without fetching them; a row may count several times.

        Raises
        ------
        ArchiveUnavailableError, BadAnswerError
            As `search`.
        """
        filters = _filters(sky_field)
        if not filters:
            return 0
        requests = [portal.count_request(filters, position=circle) for circle in _circles(sky_field)]
        return sum(portal.parse_count(self._ask(request)) for request in requests)

    def download(self, exposure: Exposure, folder: Path) -> Download:
        """Fetch the files of an exposure by their ``dataURI``.

        Parameters
        ----------
        exposure
            A row of `search`.

        folder
            Where the files go, under MAST's names.

        Raises
        ------
        NoCoverageError
            The row has no image.

        ArchiveUnavailableError, AuthenticationNeededError, BadAnswerError
            As for the network.
        """
        listed = json.loads(exposure.url).get("files", {})
        if "image" not in listed:
            msg = f"{exposure.exposure_id}: no image was listed for it; search again"
            raise NoCoverageError(msg)
        token = self._transport.token("mast")
        folder.mkdir(parents=True, exist_ok=True)
        fetched = {
            role: self._transport.download(
                portal.file_request(file["uri"], token=token),
                folder / Path(file["name"]).name,
                n_bytes=file["size"] or None,
            )
            for role, file in listed.items()
        }
        return Download(
            {role: file.path for role, file in fetched.items()},
            {role: file.sha256 for role, file in fetched.items()},
        )

    # --- asking -----------------------------------------------------------------------------------

    def _exposures(self, sky_field: Field, more: Iterable[Row]) -> list[Exposure]:
        filters = _filters(sky_field)
        if not filters:
            return []
        rows = self._observations([*filters, *more], _circles(sky_field))
        may_look_ahead = self._transport.token("mast") is not None
        candidates = [_candidate(row, _options(sky_field), may_look_ahead=may_look_ahead) for row in rows]
        wanted = [c for c in candidates if _worth_a_look(c, sky_field)]
        products = self._products(sorted({str(c.row["obsid"]) for c in wanted}))
        found = [
            _with_files(c, products.get(str(c.row["obsid"]), ())) if c in wanted else c.exposure
            for c in candidates
        ]
        return sorted(found, key=lambda e: (e.exposure_id, e.url))

    def _observations(self, filters: Sequence[Row], circles: Sequence[tuple[float, ...]]) -> list[Row]:
        """Return the rows in some circles, each once."""
        once: dict[str, Row] = {}
        for circle in circles:

            def request(page: int, circle: Any = circle) -> Request:
                return portal.criteria_request(filters, position=circle, page=page)

            for page in self._pages(request):
                for row in page.rows:
                    once.setdefault(_key(row), row)
        return [once[key] for key in sorted(once)]

    def _products(self, obsids: Sequence[str]) -> dict[str, list[Product]]:
        """Return the products of observations by ``obsid``."""
        found: dict[str, list[Product]] = {}
        for start in range(0, len(obsids), portal.PRODUCT_BATCH):
            batch = obsids[start : start + portal.PRODUCT_BATCH]

            def request(page: int, batch: Sequence[str] = batch) -> Request:
                return portal.products_request(batch, page=page)

            for page in self._pages(request):
                for product in map(product_of, page.rows):
                    found.setdefault(product.obsid, []).append(product)
        return found

    def _pages(self, request: Callable[[int], Request]) -> list[Page]:
        """Return all pages of an answer.

        Raises
        ------
        BadAnswerError
            Another page than the one asked for, or fewer rows than MAST has counted.
        """
        pages = [portal.parse_page(self._ask(request(1)))]
        pages += [portal.parse_page(self._ask(request(n))) for n in range(2, pages[0].pages + 1)]
        numbers = [page.number for page in pages]
        n_rows = sum(len(page.rows) for page in pages)
        if numbers != list(range(1, len(pages) + 1)) or n_rows != pages[0].n_rows:
            msg = (
                f"MAST: pages {numbers} of {len(pages)} with {n_rows} of {pages[0].n_rows} rows: "
                f"{request(1).shown}"
            )
            raise BadAnswerError(msg)
        return pages

    def _ask(self, request: Request) -> bytes:
        return self._transport.ask(request, pending=portal.is_executing).content


# --- questions ----------------------------------------------------------------------------------


def _options(sky_field: Field) -> MastOptions:
    from astrid_assets.fields import MastOptions

    return sky_field.mast or MastOptions()


def _circles(sky_field: Field) -> list[tuple[float, float, float]]:
    largest = _options(sky_field).search_radius_max
    return portal.cover(sky_field.ra, sky_field.dec, sky_field.radius, largest=largest)


def _filters(sky_field: Field) -> list[Row]:
    """Return the criteria of a field; none where no mission observed in its windows."""
    missions, options = missions_of(sky_field), _options(sky_field)
    if not missions:
        return []
    filters = [
        portal.among("obs_collection", *missions),
        portal.among("dataproduct_type", *sorted({t for name in missions for t in MISSIONS[name].types})),
        portal.among("calib_level", *range(options.calib_level_min, 5)),
        portal.among("intentType", "science"),
    ]
    if options.instruments:
        filters.append(portal.among("instrument_name", *options.instruments))
    return filters


def _key(row: Row) -> str:
    """Return what is the same for two copies of a row; GALEX has one ``obsid`` for both of its bands."""
    return "|".join(str(row.get(name)) for name in ("obs_collection", "obs_id", "filters", "obsid"))


# --- rows ---------------------------------------------------------------------------------------


def _candidate(row: Row, options: MastOptions, *, may_look_ahead: bool) -> _Candidate:
    """Return the exposure of a row, with the first reason why it is no use."""
    from astrid_assets.surveys import load_profile

    mission = MISSIONS.get(_text(row, "obs_collection").upper())
    instrument = _text(row, "instrument_name").split("/")[0].upper()
    name = mission.profiles.get(instrument) if mission is not None else None
    profile = None if name is None else load_profile(name)
    band = None if profile is None else band_of(row.get("filters"), profile)
    footprint, fault = _footprint(row)
    problem = (
        _mission_problem(row, mission)
        or _quality_problem(row, options)
        or _rights_problem(row, may_look_ahead=may_look_ahead)
        or (f"no survey profile: {_text(row, 'instrument_name') or '?'}" if profile is None else None)
        or (f"no single band: filters {_text(row, 'filters') or '?'}" if band is None else None)
        or (None if _number(row, "t_min") <= _number(row, "t_max") else "no time of observation in the row")
        or fault
    )
    exposure = _exposure(row, profile, band or "", footprint)
    return _Candidate(row, replace(exposure, problem=problem), profile)


def _exposure(
    row: Row, profile: Profile | None, band: str, footprint: tuple[tuple[float, float], ...]
) -> Exposure:
    from astrid_assets.images.headers import DAYS_OF_A_STACK

    start, end = _number(row, "t_min"), _number(row, "t_max")
    exptime = _number(row, "t_exptime")
    mission, obsid = _text(row, "obs_collection").lower(), _text(row, "obsid")
    level = _text(row, "calib_level")
    return Exposure(
        exposure_id=_exposure_id(mission, _text(row, "obs_id"), _text(row, "filters")),
        archive=MastArchive.name,
        survey="generic" if profile is None else profile.name,
        detector_type="" if profile is None else detector_type_of(row, profile, band or None),
        band=band,
        calibration="",
        product="stack" if end - start > DAYS_OF_A_STACK else "exposure",
        mjd_start=start,
        mjd_mid=(start + end) / 2.0,
        mjd_end=end,
        footprint=footprint,
        url=json.dumps({"obsid": obsid}),
        revision=_hash(obsid, _text(row, "t_obs_release"), level),
        n_exposures=1 if level == "2" else None,
        exptime=exptime if exptime > 0 else None,
    )


def _mission_problem(row: Row, mission: Mission | None) -> str | None:
    """Return why a mission gives no exposures, or not in this row."""
    collection, project = _text(row, "obs_collection"), _text(row, "project")
    if mission is None:
        return f"collection not asked for: {collection}"
    if mission.elsewhere is not None:
        return f"not from archive mast: {mission.elsewhere}"
    if mission.project is not None and project not in ("", mission.project):
        return f"processed twice: project {project}, also in project {mission.project}"
    kind = _text(row, "dataproduct_type")
    return None if kind.lower() in mission.types else f"not an image: {kind or '?'}"


def _quality_problem(row: Row, options: MastOptions) -> str | None:
    """Return why an image is not good enough to compare."""
    if _text(row, "intentType") not in ("", "science"):
        return f"not for science: {_text(row, 'intentType')}"
    level = _number(row, "calib_level")
    if not level >= options.calib_level_min:
        return f"calibration level too low: {level:g} < {options.calib_level_min}"
    return None


def _rights_problem(row: Row, *, may_look_ahead: bool) -> str | None:
    """Return that a row is not public; with a token MAST decides at the download."""
    from astrid_assets.clock import from_mjd, now_mjd

    release = _number(row, "t_obs_release")
    if may_look_ahead or (_text(row, "dataRights").upper() in _PUBLIC and not release > now_mjd()):
        return None
    until = f"until {from_mjd(release).date()}, " if math.isfinite(release) else ""
    return f"proprietary: {until}unless a token in MAST_API_TOKEN opens it"


def _footprint(row: Row) -> tuple[tuple[tuple[float, float], ...], str | None]:
    """Return the outline of a row, or none and why."""
    text = _text(row, "s_region")
    if not text:
        return (), "no footprint in the row"
    try:
        return region_footprint(text), None
    except ValueError as error:
        return (), f"unusable footprint: {error}"


def _worth_a_look(candidate: _Candidate, sky_field: Field) -> bool:
    """Tell whether an exposure may be chosen, so that its files are to be listed: that is slow at MAST."""
    exposure = candidate.exposure
    if exposure.problem is not None or (sky_field.bands and exposure.band not in sky_field.bands):
        return False
    times = (exposure.mjd_start, exposure.mjd_mid, exposure.mjd_end)
    windows = (sky_field.science_window, sky_field.reference_window)
    return any(window.contains(t) for window in windows for t in times)


def _with_files(candidate: _Candidate, products: Sequence[Product]) -> Exposure:
    """Return the exposure with what its products add: files, bytes, version."""
    from astrid_assets.images.headers import calibration_version

    row, exposure, profile = candidate.row, candidate.exposure, candidate.profile
    assert profile is not None  # noqa: S101 -- a candidate without profile has a problem
    mission, obs_id = _text(row, "obs_collection").upper(), _text(row, "obs_id")
    chosen = choose(products, mission=mission, obs_id=obs_id, profile=profile, band=exposure.band)
    image = chosen.get("image")
    if image is None:
        return replace(
            exposure, problem=f"no image: none of {len(products)} files is of a kind that is taken"
        )
    files = {r: {"uri": p.uri, "name": p.filename, "size": p.size} for r, p in chosen.items()}
    version = next((v for v in re.findall(r"\d+(?:\.\d+)+", image.version)), "")
    # versions of pipelines part images only where the profile says which part of them matters
    has_pattern = profile.calibration_pattern is not None
    calibration = calibration_version({"CAL_VER": version}, profile) if has_pattern else ""
    return replace(
        exposure,
        url=json.dumps({"obsid": _text(row, "obsid"), "files": files}, sort_keys=True),
        revision=_hash(exposure.revision, *(f"{p.uri} {p.size} {p.version}" for p in chosen.values())),
        bytes=sum(p.size for p in chosen.values()),
        calibration=calibration,
    )


def _exposure_id(mission: str, obs_id: str, filters: str) -> str:
    """Return an identifier fit for a file name; GALEX gives the two bands of a visit the same ``obs_id``."""
    text = f"{mission}-{obs_id}-{filters}"
    safe = re.sub(r"[^A-Za-z0-9_.+=-]", "_", text)
    return safe if len(safe) <= _ID_LENGTH else f"{safe[: _ID_LENGTH - 17]}-{_hash(text)[:16]}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _number(row: Mapping[str, Any], name: str) -> float:
    """Return a number of a row; NaN where there is none."""
    try:
        return float(row.get(name))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
