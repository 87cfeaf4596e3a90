"""Labels: what is known about a detection, by whom, and how sure that is.

``real`` is any change on the sky: a transient, a variable star, an asteroid; the kind stands in a column
of its own. ``bogus`` needs a cause as well: an artefact that was found, put there, or seen by a person. A
detection of which nothing is known is unlabelled, for among those the discoveries are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from astrid_assets.seeds import uniform
from astrid_assets.training.vetting import Vetting, vetting_of

__all__ = [
    "CONFIDENCES",
    "FLAG_CONFIDENCES",
    "Label",
    "LabelRules",
    "alerts_of",
    "label_injected",
    "label_observed",
    "one_domain",
]

Row = Mapping[str, Any]

CONFIDENCES = {
    "injected": 0.99,  # one to one with a source put there, and not seen without it
    "synthetic_artifact": 0.98,  # on a defect put there and not seen without it; may hide a source below it
    "variable_match": 0.95,  # catalogued as variable within 2 arcsec and changed; a few are misclassified
    "solar_system_match": 0.97,  # appeared within 5 arcsec of the ephemeris; chance matches are rare
    "reported_transient": 0.97,  # appeared within 2 arcsec of a report; some reports are of artefacts
    "vetted": 0.98,  # two people agree in 98 % of clear cases
}
"""Probability that a label is right, by source. Those of alerts come with the alert."""

FLAG_CONFIDENCES = {
    "masked": 0.99,  # 2 of 738 were true changes
    "streak": 0.93,  # 0 of 50
    "not_psf": 0.98,  # 8 of 1382
    "dipole": 0.85,  # not measured: none in those exposures
    "residual": 0.85,  # 1 of 34
    "extended": 0.85,  # not measured
}
"""The same of artefact flags, by reason: lower 95 % Wilson limit in 21 exposures of the simulated survey,
where detections on a true change of their sign above 5 sigma count as wrong; rounded down."""

_CHANGING = ("solar_system", "transient", "variable")
"""Kinds of known objects that change, the rarest first: which one explains a detection."""

_SOURCES = {
    "solar_system": "solar_system_match",
    "transient": "reported_transient",
    "variable": "variable_match",
}


@dataclass(frozen=True)
class LabelRules:
    """Numbers of the rules."""

    min_snr: float = 3.0
    """Least significance of a change that a catalogue entry may explain, sigma: it has to be visible."""

    match_radius: float = 1.5
    """Distance between a detection and an alert or a vetted position, arcsec."""

    same_pixels: float = 2.0
    """Distance of detections of the runs with and without injections that are the same, pixels."""

    margin: float = 2.0
    """Distance from the pixels that a defect changed within which a detection is of that defect, pixels."""

    ambiguous: float = 15.0
    """Distance from an injected source within which another detection may be caused by it, pixels."""

    injected_shares: tuple[float, float] = (0.2, 0.8)
    """Least and largest share of the bogus detections of both runs that is taken from the run with
    injections; in between it is that of the real ones, so that the domain does not tell the class."""

    alert_margin: float = 60.0
    """Time from the ends of an exposure within which an alert is of that exposure, seconds."""


@dataclass(frozen=True)
class Label:
    """What is said about one detection."""

    label: str = "unlabelled"
    """real, bogus or unlabelled."""

    source: str = "none"
    """One of `astrid_assets.training.schema.LABEL_SOURCES`."""

    confidence: float | None = None
    """Probability that it is right; None where unlabelled."""

    type: str = ""
    """Class of the object or defect."""

    object_id: str = ""
    """Object, the same in all epochs."""

    host_id: str = ""
    """Galaxy or star under it."""

    domain: str = "observed"
    """observed or injected."""

    site: str = ""
    """Where an injection was put."""

    magnitude_true: float | None = None
    """Magnitude put in."""

    flux_true: float | None = None
    """Flux put in, image unit."""

    injection_probability: float | None = None
    """Density with which its magnitude was drawn, 1/mag."""

    twin: int = -1
    """Row of the same pixels in the other run; -1 where there is none."""


# --- detections of the exposure as it is ----------------------------------------------------------


def label_observed(
    rows: Sequence[Row],
    *,
    alerts: Sequence[Row] = (),
    verdicts: Sequence[Vetting] = (),
    rules: LabelRules | None = None,
) -> list[Label]:
    """Label the detections of an exposure.

    Parameters
    ----------
    rows
        Candidates with their cross-matches (``star_id``, ``galaxy_id``, ``variable_id``, ``variable_class``,
        ``variable_sep`` and so on) and ``object_id`` of their light curve; both may be missing.

    alerts
        Public alerts of the same exposure: ``ra``, ``dec``, ``positive``, ``label`` (1, 0, -1),
        ``label_confidence``, ``object_id``.

    verdicts
        What people said about candidates of the field.

    rules
        Numbers of the rules.

    Returns
    -------
    list of Label
        One a row.
    """
    rules = rules or LabelRules()
    return [_observed(row, alerts, verdicts, rules) for row in rows]


def alerts_of(alerts: Sequence[Row], exposure: Row, *, rules: LabelRules | None = None) -> list[Row]:
    """Return the alerts that were made from an exposure, by time and band.

    Parameters
    ----------
    alerts
        Rows with ``mjd`` (UTC, start or middle of the exposure) and ``band``.

    exposure
        Row with ``mjd_start``, ``mjd_mid``, ``mjd_end`` and ``band``.

    rules
        Numbers of the rules.
    """
    margin = (rules or LabelRules()).alert_margin / 86400.0
    middle = exposure["mjd_mid"]
    start, end = (exposure.get(name) or middle for name in ("mjd_start", "mjd_end"))
    return [a for a in alerts if a["band"] == exposure["band"] and start - margin <= a["mjd"] <= end + margin]


def _observed(row: Row, alerts: Sequence[Row], verdicts: Sequence[Vetting], rules: LabelRules) -> Label:
    base = Label(object_id=row.get("object_id") or row["candidate_id"], host_id=_host(row))
    seen = vetting_of(row["candidate_id"], row.get("ra"), row.get("dec"), verdicts, radius=rules.match_radius)
    if seen is not None:
        return _vetted(base, seen)
    return _agreed(base, row, _by_catalogue(row, rules), _by_alert(row, alerts, rules))


def _host(row: Row) -> str:
    """Return the galaxy under a detection, else the star, else the variable star."""
    return next((row[k] for k in ("galaxy_id", "star_id", "variable_id") if row.get(k)), "")


def _vetted(base: Label, verdict: Vetting) -> Label:
    if verdict.label == "unlabelled":
        return replace(base, source="none")
    confidence = CONFIDENCES["vetted"]
    return replace(base, label=verdict.label, source="vetted", confidence=confidence, type=verdict.type)


def _changing_kind(row: Row) -> str | None:
    """Return the kind of the known changing object that a detection may be."""
    return next((kind for kind in _CHANGING if row.get(f"{kind}_id")), None)


def _by_catalogue(row: Row, rules: LabelRules) -> tuple[str, str, float | None, str]:
    """Return label, source, confidence and type by known objects and flags."""
    kind, flag = _changing_kind(row), row.get("artifact") or ""
    unknown = ("unlabelled", "none", None, "")
    if kind is not None:
        # a flag on something that does change is right or wrong: nobody knows
        if flag or not _plausible(kind, row, rules):
            return unknown
        source = _SOURCES[kind]
        return "real", source, CONFIDENCES[source], _type_of(kind, row)
    # the place of a flagged detection that passed all tests in another exposure may hold something real
    if flag and not row.get("object_id"):
        return "bogus", "artifact_flag", FLAG_CONFIDENCES[flag], flag
    return unknown


def _plausible(kind: str, row: Row, rules: LabelRules) -> bool:
    """Whether a change is visible and of the sign that is expected; only variables also fade."""
    return row["snr"] >= rules.min_snr and (kind == "variable" or bool(row["positive"]))


def _type_of(kind: str, row: Row) -> str:
    if kind == "solar_system":
        return "asteroid"
    # "SN Ib/c" of a report and "sn_ibc" of an injection are one type
    return re.sub(r"[^a-z0-9]+", "_", (row.get(f"{kind}_class") or kind).lower().replace("/", ""))


def _by_alert(row: Row, alerts: Sequence[Row], rules: LabelRules) -> Row | None:
    """Return the labelled alert of a detection."""
    if row.get("ra") is None:
        return None
    near = [a for a in alerts if a["label"] in (0, 1) and _separation(a, row) <= rules.match_radius]
    near = [a for a in near if bool(a["positive"]) == bool(row["positive"])]
    return min(near, key=lambda alert: _separation(alert, row), default=None)


def _separation(one: Row, other: Row) -> float:
    """Return the distance of two positions on the sky, arcsec; for small ones."""
    east = ((one["ra"] - other["ra"] + 180.0) % 360.0 - 180.0) * math.cos(math.radians(other["dec"]))
    return 3600.0 * math.hypot(east, one["dec"] - other["dec"])


def _agreed(base: Label, row: Row, ours: tuple[str, str, float | None, str], alert: Row | None) -> Label:
    """Join our label with that of an alert: where they contradict each other nothing is known."""
    label, source, confidence, kind = ours
    if alert is not None:
        theirs = "real" if alert["label"] == 1 else "bogus"
        flagged = bool(row.get("artifact"))
        if label not in ("unlabelled", theirs) or (label == "unlabelled" and flagged and theirs == "real"):
            return base
        if label == "unlabelled":
            kind = _type_of(k, row) if (k := _changing_kind(row)) and theirs == "real" else ""
            label, source, confidence = theirs, "alert_label", alert["label_confidence"]
    return replace(base, label=label, source=source, confidence=confidence, type=kind)


# --- detections of the copy with injections -------------------------------------------------------


def label_injected(
    rows: Sequence[Row],
    truth: Sequence[Row],
    observed: Sequence[Row],
    labels: Sequence[Label],
    *,
    rules: LabelRules | None = None,
) -> list[Label]:
    """Label the detections of the run with injections.

    What was put there names itself. What was there before keeps the label it has without injections; its
    `Label.twin` says which detection that is. What is new and neither of the two is bogus where a flag
    says so and no injected source is near, else unlabelled.

    Parameters
    ----------
    rows
        Detections: columns of candidates, ``injection_id`` and ``in_clean_run``; cross-matches where known.

    truth
        What was put there: sources and defects.

    observed, labels
        Candidates of the exposure without injections, and their labels.

    rules
        Numbers of the rules.

    Returns
    -------
    list of Label
        One a row of ``rows``.
    """
    rules = rules or LabelRules()
    by_id = {t["injection_id"]: t for t in truth}
    twins = _twins(rows, observed, rules.same_pixels)
    return [
        _injected(row, by_id.get(row.get("injection_id")), truth, twin, labels, rules)
        for row, twin in zip(rows, twins, strict=True)
    ]


def _twins(rows: Sequence[Row], observed: Sequence[Row], reach: float) -> list[int]:
    """Return for each detection that is also in the run without injections its row there, else -1."""
    if not rows or not observed:
        return [-1] * len(rows)
    here, there = (
        np.array([[r["x"], r["y"], r["positive"]] for r in part], float) for part in (rows, observed)
    )
    distance = np.hypot(*(here[:, None, :2] - there[None, :, :2]).transpose(2, 0, 1))
    distance[here[:, None, 2] != there[None, :, 2]] = np.inf
    distance[[not row["in_clean_run"] for row in rows]] = np.inf
    nearest = distance.argmin(axis=1)
    return np.where(distance.min(axis=1) <= reach, nearest, -1).tolist()


def _injected(
    row: Row, match: Row | None, truth: Sequence[Row], twin: int, labels: Sequence[Label], rules: LabelRules
) -> Label:
    base = Label(object_id=row["candidate_id"], host_id=_host(row), domain="injected")
    if match is None and not row["in_clean_run"]:
        match = _defect_at(row, truth, rules.margin)
    if match is not None:
        base = _about(base, match)
        return base if row["in_clean_run"] else _put_there(base, row, match, rules)
    if twin >= 0:
        return replace(labels[twin], domain="injected", twin=twin)
    if (
        row["in_clean_run"]
        or not row.get("artifact")
        or _changing_kind(row)
        or _near_source(row, truth, rules)
    ):
        return base
    flag = row["artifact"]
    return replace(base, label="bogus", source="artifact_flag", confidence=FLAG_CONFIDENCES[flag], type=flag)


def _about(base: Label, match: Row) -> Label:
    """Return what the truth says about a detection, without a label."""
    return replace(
        base,
        object_id=match["object_id"],
        host_id=match.get("host_id") or base.host_id,
        type=match["class"],
        site=match.get("site") or "",
        magnitude_true=match.get("magnitude"),
        flux_true=match.get("flux"),
        injection_probability=match.get("injection_probability"),
    )


def _put_there(base: Label, row: Row, match: Row, rules: LabelRules) -> Label:
    """Return the label of a detection of something that was put there."""
    if match["kind"] == "artifact":
        source = "synthetic_artifact"
        # a defect on a known variable star: nobody knows which of the two was detected
        clear = _changing_kind(row) is None
        label = "bogus"
    else:
        source, label = "injected", "real"
        visible = abs(match.get("snr_expected") or math.inf) >= rules.min_snr
        clear = visible and bool(row["positive"]) == (match["flux"] > 0)
    if not clear:
        return base
    return replace(base, label=label, source=source, confidence=CONFIDENCES[source])


def _defect_at(row: Row, truth: Sequence[Row], margin: float) -> Row | None:
    """Return the defect whose pixels a detection lies on."""
    near = [
        (distance, i)
        for i, t in enumerate(truth)
        if t["kind"] == "artifact" and (distance := _from_line(row, t)) <= (t.get("extent") or 0.0) + margin
    ]
    return truth[min(near)[1]] if near else None


def _near_source(row: Row, truth: Sequence[Row], rules: LabelRules) -> bool:
    return any(t["kind"] == "source" and _from_line(row, t) <= rules.ambiguous for t in truth)


def _from_line(row: Row, truth: Row) -> float:
    """Return the distance of a detection from the line of a trail, or from a point, pixels."""
    x, y = truth["x"], truth["y"]
    x_end, y_end = (truth.get(name) for name in ("x_end", "y_end"))
    dx, dy = (0.0, 0.0) if x_end is None or math.isnan(x_end) else (x_end - x, y_end - y)
    square = dx * dx + dy * dy
    along = ((row["x"] - x) * dx + (row["y"] - y) * dy) / square if square > 0 else 0.0
    # the position of a source is the middle of its trail, that of a defect one end
    along = min(max(along, -1.0 if truth["kind"] == "source" else 0.0), 1.0)
    return math.hypot(row["x"] - x - along * dx, row["y"] - y - along * dy)


# --- both -----------------------------------------------------------------------------------------


def one_domain(
    observed: Sequence[Row],
    labels: Sequence[Label],
    injected: Sequence[Label],
    *,
    rules: LabelRules | None = None,
) -> tuple[list[bool], list[bool]]:
    """Decide which detections to keep so that no pixels are in the set twice.

    Of a bogus detection that both runs have, one is kept, by a hash of its name: so that there are hard
    negatives from real detections in both domains, in the proportion of the real ones. All else that both
    runs have is kept as observed.

    Parameters
    ----------
    observed, labels
        Candidates of the exposure and their labels.

    injected
        Labels of the run with injections.

    rules
        Numbers of the rules.

    Returns
    -------
    tuple of lists of bool
        Whether to keep each detection: observed, injected.
    """
    low, high = (rules or LabelRules()).injected_shares
    n_observed = sum(label.label == "real" for label in labels)
    n_injected = sum(label.label == "real" and label.twin < 0 for label in injected)
    share = min(max(n_injected / max(n_observed + n_injected, 1), low), high)
    keep = [True] * len(labels)
    keep_injected = [True] * len(injected)
    for i, label in enumerate(injected):
        if label.twin < 0:
            continue
        moves = (
            labels[label.twin].label == "bogus"
            and keep[label.twin]
            and uniform("domain", observed[label.twin]["candidate_id"]) < share
        )
        keep_injected[i] = moves
        if moves:
            keep[label.twin] = False
    return keep, keep_injected
