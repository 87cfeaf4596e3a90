"""Which exposures of a field are worth downloading, and which reference each is compared with.

Decided from the archives' rows alone, before a byte of an image is moved. Pure functions: the
same exposures and field give the same answer, whatever the order of the exposures.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from astrid_assets.archives.availability import mission_of, why_nothing
from astrid_assets.archives.footprints import coverage, touches_circle
from astrid_assets.fields import EVENT_FADES_DAYS

if TYPE_CHECKING:
    from astrid_assets.archives.protocol import Exposure
    from astrid_assets.fields import Field

__all__ = ["COLOUR_TERM_UNKNOWN", "REFERENCE_EXPOSURES_MAX", "Verdict", "pair_exposures", "pairing_key"]

COLOUR_TERM_UNKNOWN = "COLOUR_TERM_UNKNOWN"
"""Flag of a science exposure whose reference is of another survey: filters of one name are not one filter."""

REFERENCE_EXPOSURES_MAX = 20
"""Most exposures that are coadded into one reference; beyond it the depth gains little (under 3 % each)."""

SAME_SKY = 0.5
"""Least share of the best reference exposure that another must cover to be coadded with it."""

_DIFFERENT_SKY = "no overlap with the reference: they show different sky"

_FILE_NAME = re.compile(r"^[A-Za-z0-9_.+=-]{1,200}$")


@dataclass(frozen=True)
class Verdict:
    """What was decided about one exposure."""

    exposure: Exposure
    """The archive's row."""

    status: str = "selected"
    """``selected`` or ``rejected``."""

    reason: str | None = None
    """Why it is rejected or deferred; what stands before a colon is the kind of reason."""

    role: str | None = None
    """``science`` or ``reference``; None where it is neither."""

    reference_id: str | None = None
    """Reference of a science exposure, or the reference that a reference exposure is part of."""

    overlap: float | None = None
    """Share of a science exposure that its reference covers; None where the footprints do not tell."""

    deferred: bool = False
    """Selected, but left to a later run by the field's limit."""

    flags: str | None = None
    """`COLOUR_TERM_UNKNOWN` where the reference is of another survey."""


@dataclass(frozen=True)
class _Reference:
    """A reference that can be had: one stack, one exposure, or several to be coadded."""

    members: tuple[Exposure, ...]
    reference_id: str = field(init=False)

    def __post_init__(self) -> None:
        names = [e.exposure_id for e in self.members]
        joined = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
        name = names[0] if len(names) == 1 else f"coadd-{self.members[0].band}-{joined}"
        object.__setattr__(self, "reference_id", name)

    @property
    def is_stack(self) -> bool:
        return self.members[0].product == "stack"

    @property
    def span(self) -> tuple[float, float]:
        return min(e.mjd_start for e in self.members), max(e.mjd_end for e in self.members)

    def covers(self, science: Exposure) -> float | None:
        if not science.footprint:
            return None
        return max(coverage(science.footprint, e.footprint) for e in self.members)

    @property
    def depth(self) -> int:
        return sum(e.n_exposures or 0 for e in self.members)


def pairing_key(exposure: Exposure) -> str:
    """Return what two images must share to be compared: survey, detector type, band, calibration."""
    return "/".join((exposure.survey, exposure.detector_type, exposure.band, exposure.calibration))


def pair_exposures(
    exposures: Iterable[Exposure], sky_field: Field, *, taken: Collection[str] = ()
) -> list[Verdict]:
    """Decide about every exposure of a field.

    Parameters
    ----------
    exposures
        All that the archives offer.

    sky_field
        The field.

    taken
        Identifiers of science exposures that an earlier run has taken on; the limit of new
        exposures per run does not count them.

    Returns
    -------
    list of Verdict
        One for each exposure, in the order of time and identifier. Every rejection has its reason.
    """
    ordered = sorted(exposures, key=lambda e: (_sortable(e.mjd_mid), e.exposure_id, e.archive))
    once, doubles = _once(ordered)
    verdicts = [_first_look(e, sky_field) for e in once]
    references = _references([v.exposure for v in verdicts if v.role == "reference" and _selected(v)])
    science = [_with_reference(v, references, sky_field) for v in verdicts if v.role == "science"]
    science = _deferred(science, sky_field.limits.new_exposures_per_run, taken)
    settled = {v.exposure.exposure_id: v for v in [*science, *_members(verdicts, references, science)]}
    return [settled[v.exposure.exposure_id] for v in verdicts] + doubles


def _sortable(mjd: float) -> float:
    return mjd if math.isfinite(mjd) else -math.inf


def _selected(verdict: Verdict) -> bool:
    return verdict.status == "selected"


def _once(ordered: Sequence[Exposure]) -> tuple[list[Exposure], list[Verdict]]:
    """Return the first exposure of each identifier, and the rejected others."""
    first: dict[str, Exposure] = {}
    doubles = []
    for exposure in ordered:
        if first.setdefault(exposure.exposure_id, exposure) is not exposure:
            reason = f"offered twice: by {first[exposure.exposure_id].archive} too"
            doubles.append(Verdict(exposure, "rejected", reason))
    return list(first.values()), doubles


def _first_look(exposure: Exposure, sky_field: Field) -> Verdict:
    """Judge an exposure by itself and give it its role."""
    role = _role(exposure, sky_field)
    for test in _TESTS:
        reason = test(exposure, sky_field)
        if reason:
            return Verdict(exposure, "rejected", reason, role)
    reason = _role_fault(exposure, sky_field, role)
    return Verdict(exposure, "rejected" if reason else "selected", reason, role)


def _role(exposure: Exposure, sky_field: Field) -> str | None:
    if exposure.product == "stack":
        return "reference"
    if not math.isfinite(exposure.mjd_mid):
        return None
    if sky_field.science_window.contains(exposure.mjd_mid):
        return "science"
    return "reference" if sky_field.reference_window.contains(exposure.mjd_mid) else None


def _identity_fault(exposure: Exposure, sky_field: Field) -> str | None:
    if exposure.archive not in sky_field.archives:
        return f"archive not asked for: {exposure.archive}"
    if not _FILE_NAME.match(exposure.exposure_id):
        return f"identifier cannot be a file name: {exposure.exposure_id!r}"
    return None


def _archive_fault(exposure: Exposure, _: Field) -> str | None:
    return exposure.problem


def _time_fault(exposure: Exposure, _: Field) -> str | None:
    times = (exposure.mjd_start, exposure.mjd_mid, exposure.mjd_end)
    if all(math.isfinite(t) for t in times):
        return None
    return "stack of unknown epochs" if exposure.product == "stack" else "time of observation unknown"


def _band_fault(exposure: Exposure, sky_field: Field) -> str | None:
    if sky_field.bands and exposure.band not in sky_field.bands:
        return f"band not asked for: {exposure.band}"
    return None


def _place_fault(exposure: Exposure, sky_field: Field) -> str | None:
    if not exposure.footprint:
        aligned = sky_field.local is not None and sky_field.local.assume.aligned
        return None if aligned else "no world coordinates: its place on the sky is unknown"
    # a reference is judged by the science exposures that it covers
    if _role(exposure, sky_field) == "reference":
        return None
    inside = touches_circle(exposure.footprint, sky_field.ra, sky_field.dec, sky_field.radius)
    return None if inside else "outside the field"


def _size_fault(exposure: Exposure, sky_field: Field) -> str | None:
    limit = sky_field.limits.file_size_mb
    if exposure.bytes > limit * 1e6:
        return f"file too large: {exposure.bytes / 1e6:.0f} MB > {limit:g} MB"
    return None


def _quality_fault(exposure: Exposure, sky_field: Field) -> str | None:
    limits, depth = sky_field.limits, exposure.limiting_magnitude
    if limits.seeing_max_arcsec and exposure.seeing and exposure.seeing > limits.seeing_max_arcsec:
        return f"seeing too bad: {exposure.seeing:.2f} > {limits.seeing_max_arcsec:g} arcsec"
    # shallow exposures add up to a reference, but a science exposure stands alone
    science = _role(exposure, sky_field) == "science"
    if (
        science
        and None not in (limits.limiting_magnitude_min, depth)
        and depth < limits.limiting_magnitude_min
    ):
        return f"not deep enough: {depth:.2f} < {limits.limiting_magnitude_min:g} AB mag"
    return None


_TESTS = (
    _identity_fault,
    _archive_fault,
    _time_fault,
    _band_fault,
    _place_fault,
    _size_fault,
    _quality_fault,
)
"""What an exposure is asked by itself; the first fault is the reason of its rejection."""


def _role_fault(exposure: Exposure, sky_field: Field, role: str | None) -> str | None:
    if role is None:
        return "outside both windows"
    if role == "science":
        return None
    window = sky_field.reference_window
    if not (window.contains(exposure.mjd_start) and window.contains(exposure.mjd_end)):
        digits = 1 if exposure.mjd_end - exposure.mjd_start > 1.0 else 5  # 5: one second
        span = f"MJD {exposure.mjd_start:.{digits}f} to {exposure.mjd_end:.{digits}f}"
        return f"reference not wholly in its window: {span}"
    if sky_field.event is not None and not _clear_of_event((exposure.mjd_start, exposure.mjd_end), sky_field):
        return (
            f"reference may contain {sky_field.event.name}: MJD {exposure.mjd_start:.1f} to "
            f"{exposure.mjd_end:.1f}, event at {sky_field.event.mjd:.1f}"
        )
    return None


def _clear_of_event(span: tuple[float, float], sky_field: Field) -> bool:
    """Tell whether a span ends before the event, by the guard gap, or starts well after it."""
    event = sky_field.event
    return span[1] <= event.mjd - event.guard_days or span[0] >= event.mjd + EVENT_FADES_DAYS


def _references(exposures: Sequence[Exposure]) -> dict[str, list[_Reference]]:
    """Return the references that can be had by pairing key; stacks first, then single and coadded ones."""
    by_key: dict[str, list[_Reference]] = {}
    for key in sorted({pairing_key(e) for e in exposures}):
        mine = [e for e in exposures if pairing_key(e) == key]
        stacks = [_Reference((e,)) for e in mine if e.product == "stack"]
        by_key[key] = stacks + _coadds([e for e in mine if e.product != "stack"])
    return by_key


def _coadds(exposures: Sequence[Exposure]) -> list[_Reference]:
    """Group exposures that show the same sky, the best seeing first."""
    left = sorted(
        exposures, key=lambda e: (e.seeing or math.inf, -(e.limiting_magnitude or 0), e.exposure_id)
    )
    groups: list[_Reference] = []
    while left:
        best = left[0]
        together = [e for e in left if e is best or _same_sky(best, e)]
        groups.append(_Reference(tuple(together[:REFERENCE_EXPOSURES_MAX])))
        left = [e for e in left if e not in together]
    return groups


def _same_sky(best: Exposure, other: Exposure) -> bool:
    if not best.footprint or not other.footprint:
        return not best.footprint and not other.footprint
    return coverage(best.footprint, other.footprint) >= SAME_SKY


def _with_reference(
    verdict: Verdict, references: Mapping[str, list[_Reference]], sky_field: Field
) -> Verdict:
    """Give a science exposure the best reference of its pairing key, or of another survey, or reject it."""
    if not _selected(verdict):
        return verdict
    science = verdict.exposure
    own = _best_of(verdict, references.get(pairing_key(science), []), sky_field)
    if own is not None and _selected(own):
        return own
    foreign = _best_of(verdict, _foreign(science, references, sky_field), sky_field)
    if foreign is not None and _selected(foreign):
        return replace(foreign, flags=COLOUR_TERM_UNKNOWN)
    reason = _lonely_reason(science, references, sky_field)
    return own or foreign or replace(verdict, status="rejected", reason=reason)


def _foreign(
    science: Exposure, references: Mapping[str, list[_Reference]], sky_field: Field
) -> list[_Reference]:
    """Return the references of other surveys in a band of the same name, if the field allows any."""
    allowed = () if sky_field.cross_survey is None else sky_field.cross_survey.references
    found = [r for rs in references.values() for r in rs if r.members[0].band == science.band]
    return [r for r in found if r.members[0].survey in allowed and r.members[0].survey != science.survey]


def _best_of(verdict: Verdict, references: Sequence[_Reference], sky_field: Field) -> Verdict | None:
    """Choose among references: rejected where none is far or large enough, None where there is none."""
    science = verdict.exposure
    if not references:
        return None
    apart = [r for r in references if _far_enough(r, science, sky_field)]
    if not apart:
        reason = f"every reference within the guard gap: {sky_field.guard_days:g} days"
        return replace(verdict, status="rejected", reason=reason)
    overlaps = {r.reference_id: r.covers(science) for r in apart}
    best = max(apart, key=_preference(overlaps, sky_field.limits.overlap_min))
    overlap = overlaps[best.reference_id]
    settled = replace(verdict, reference_id=best.reference_id, overlap=overlap)
    if overlap is None or overlap >= sky_field.limits.overlap_min:
        return settled
    reason = f"overlap with the reference too small: {overlap:.2f} < {sky_field.limits.overlap_min:g}"
    if overlap == 0:
        reason = _DIFFERENT_SKY
    return replace(settled, status="rejected", reason=reason)


def _lonely_reason(science: Exposure, references: Mapping[str, list[_Reference]], sky_field: Field) -> str:
    """Say why an exposure has no reference: other sky, another kind, or a survey that had ended."""
    same_band = [r for rs in references.values() for r in rs if r.members[0].band == science.band]
    if same_band and all(r.covers(science) == 0 for r in same_band):
        return _DIFFERENT_SKY
    reason = f"no reference of its kind: {pairing_key(science)}"
    mission = mission_of(science.survey)
    ended = mission and why_nothing(mission, sky_field, band=science.band)
    if ended:
        return f"{reason}; {ended}"
    other = sorted({r.members[0].survey for r in same_band} - {science.survey})
    if other:
        return f"{reason}; cross_survey would allow one of {', '.join(other)}"
    return reason


def _far_enough(reference: _Reference, science: Exposure, sky_field: Field) -> bool:
    """Test the guard gap over the whole span of a reference; an event has its own, tested before."""
    if sky_field.event is not None:
        return True
    start, end = reference.span
    gap = sky_field.guard_days
    return end <= science.mjd_start - gap or start >= science.mjd_end + gap


def _preference(
    overlaps: Mapping[str, float | None], enough: float
) -> Callable[[_Reference], tuple[bool, bool, float, int, str]]:
    """Prefer what covers enough, then stacks, then more overlap (to 1 %), then depth."""

    def rank(reference: _Reference) -> tuple[bool, bool, float, int, str]:
        overlap = overlaps[reference.reference_id]
        overlap = 1.0 if overlap is None else overlap
        return (
            overlap >= enough,
            reference.is_stack,
            round(overlap, 2),
            reference.depth,
            reference.reference_id,
        )

    return rank


def _deferred(science: Sequence[Verdict], limit: int, taken: Collection[str]) -> list[Verdict]:
    """Leave new exposures beyond the limit to a later run, the oldest first."""
    new = [v.exposure.exposure_id for v in science if _selected(v) and v.exposure.exposure_id not in taken]
    later = set(new[limit:])
    reason = f"deferred: more than {limit} new exposures in one run"
    return [
        replace(v, deferred=True, reason=reason) if v.exposure.exposure_id in later else v for v in science
    ]


def _members(
    verdicts: Sequence[Verdict], references: Mapping[str, list[_Reference]], science: Sequence[Verdict]
) -> list[Verdict]:
    """Settle the exposures that are no science exposures: those no science exposure needs are rejected."""
    used = {v.reference_id for v in science if _selected(v)}
    part_of = {e.exposure_id: r for rs in references.values() for r in rs for e in r.members}
    return [_member(v, part_of, used) for v in verdicts if v.role != "science"]


def _member(verdict: Verdict, part_of: Mapping[str, _Reference], used: Collection[str | None]) -> Verdict:
    if not _selected(verdict):
        return verdict
    reference = part_of.get(verdict.exposure.exposure_id)
    if reference is None:
        reason = f"enough better exposures for a reference: {REFERENCE_EXPOSURES_MAX}"
        return replace(verdict, status="rejected", reason=reason)
    settled = replace(verdict, reference_id=reference.reference_id)
    if reference.reference_id in used:
        return settled
    return replace(settled, status="rejected", reason="no science exposure needs it as a reference")
