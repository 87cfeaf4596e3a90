"""Known limitations, found in the data: what a user of a field's results has to know, with the numbers.

Nothing here is a general remark; each sentence is there because the tables of the field say so.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from astrid_assets.checks.limits import COLOURS, checks
from astrid_assets.reports.funnel import sample_counts
from astrid_assets.reports.pages import number

if TYPE_CHECKING:
    from astrid_assets.reports.results import FieldResults
    from astrid_assets.storage.store import Row

__all__ = ["FEW_EPOCHS", "Limitation", "limitations_of"]

FEW_EPOCHS = 5
"""Epochs a band below which a light curve says little about the class of an object (own)."""

FEW_LABELS = 100
"""Labelled samples below which a field alone cannot train a classifier (own)."""

_UNDERSAMPLED = 2.0
"""FWHM in pixels below which a PSF is undersampled (design: UNDERSAMPLED)."""

_MASKED = 0.1
"""Share of untrusted pixels worth telling (half of the green limit of masked_fraction)."""

_COMPLETENESS = 0.95
"""Plateau of the efficiency curve below which even bright sources are missed (own)."""


@dataclass(frozen=True)
class Limitation:
    """One thing that these data cannot do."""

    key: str
    """Short name, the same in all fields."""

    text: str
    """What, with numbers, and what follows from it."""


def limitations_of(results: FieldResults) -> list[Limitation]:
    """Return the limitations of a field, most general first.

    Parameters
    ----------
    results
        Must allow all assets from observations to training_set.
    """
    finders = (
        _origin,
        _losses,
        _epochs,
        _bands,
        _references,
        _calibration,
        _sampling,
        _masks,
        _quality,
        _completeness,
        _labels,
        _archives,
    )
    return [limitation for find in finders for limitation in find(results)]


def _origin(results: FieldResults) -> Iterator[Limitation]:
    archives = {r["archive"] for r in results.rows("science_images")}
    if "simulated" in archives:
        yield Limitation(
            "simulated",
            "All pixels come from the simulated survey: the numbers measure the software, not the sky.",
        )


def _losses(results: FieldResults) -> Iterator[Limitation]:
    rows = results.rows("science_images")
    done = {r["exposure_id"] for r in results.rows("candidates") if r["state"] in {"ok", "empty"}}
    lost = [r for r in rows if r["exposure_id"] not in done]
    if rows and lost:
        yield Limitation(
            "lost_exposures",
            f"{len(lost)} of {len(rows)} downloaded exposures gave no candidates (the funnel says why).",
        )
    if not rows:
        yield Limitation("no_images", "No science image of this field has been downloaded.")


def _epochs(results: FieldResults) -> Iterator[Limitation]:
    counts = Counter(r["band"] or "unknown band" for r in results.usable("zogy_differences"))
    few = {band: n for band, n in sorted(counts.items()) if n < FEW_EPOCHS}
    if few:
        words = ", ".join(f"{n} in {band}" for band, n in few.items())
        yield Limitation(
            "few_epochs",
            f"Few epochs: {words}. Light curves of less than {FEW_EPOCHS} points a band do not tell classes "
            "apart, and association over epochs confirms little.",
        )
    times = [r["mjd_mid"] for r in results.usable("zogy_differences")]
    if times and any(t is None for t in times):
        yield Limitation("no_times", "Some exposures have no time of observation: nothing is ordered.")


def _bands(results: FieldResults) -> Iterator[Limitation]:
    bands = sorted({r["band"] for r in results.usable("zogy_differences") if r["band"]})
    if len(bands) == 1:
        yield Limitation(
            "single_band", f"A single band ({bands[0]}): no colours, and no check of chromatic residuals."
        )


def _references(results: FieldResults) -> Iterator[Limitation]:
    single = [r["exposure_id"] for r in results.usable("references") if (r["n_exposures"] or 1) < 3]
    if single:
        yield Limitation(
            "thin_reference",
            f"{len(single)} of the references are made of fewer than three exposures: their noise and "
            f"cosmic rays go into every difference ({', '.join(single[:3])}).",
        )
    shallow = _values(results.usable("aligned_pairs"), "depth_vs_science")
    if shallow and min(shallow) < 0:
        yield Limitation(
            "shallow_reference",
            f"{sum(v < 0 for v in shallow)} exposures are deeper than their reference (by up to "
            f"{number(-min(shallow), 2)} mag), which then dominates the noise of the difference.",
        )


def _calibration(results: FieldResults) -> Iterator[Limitation]:
    rows = results.usable("science_images")
    blind = [r for r in rows if r["footprint"] is None]
    if blind:
        yield Limitation(
            "no_wcs",
            f"{len(blind)} of {len(rows)} exposures have no world coordinates: positions are pixels only; "
            "nothing can be compared with catalogues.",
        )
    uncalibrated = [r for r in rows if r["zeropoint"] is None]
    if uncalibrated:
        yield Limitation(
            "no_zeropoint",
            f"{len(uncalibrated)} of {len(rows)} exposures have no zero point: fluxes are in the unit of the "
            "image, magnitudes and nJy are null.",
        )


def _sampling(results: FieldResults) -> Iterator[Limitation]:
    for asset, words in (("science_images", "science images"), ("references", "references")):
        widths = _values(results.usable(asset), "fwhm_px")
        sharp = [w for w in widths if w < _UNDERSAMPLED]
        if sharp:
            yield Limitation(
                "undersampled",
                f"{len(sharp)} of {len(widths)} {words} are undersampled (FWHM {number(min(sharp), 2)} "
                "pixels or more): interpolation leaves residuals at the cores of stars.",
            )


def _masks(results: FieldResults) -> Iterator[Limitation]:
    shares = _values(results.usable("zogy_differences"), "masked_fraction")
    if shares and statistics.median(shares) > _MASKED:
        yield Limitation(
            "masked",
            f"{100 * statistics.median(shares):.0f} % of the pixels of a typical difference are not trusted: "
            "nothing is looked for there, and the efficiency counts clean pixels only.",
        )


def _quality(results: FieldResults) -> Iterator[Limitation]:
    """Name what most exposures were judged orange or red for, beside exposures that were lost by it."""
    for asset in ("science_images", "aligned_pairs", "normalized_pairs", "zogy_differences", "candidates"):
        rows = results.rows(asset)
        for check in checks(asset):
            for limit in check.limits:
                colours = [r.get(f"colour_{limit.metric}") for r in rows]
                poor = [c for c in colours if c in COLOURS[3:]]
                if poor and 2 * len(poor) >= len([c for c in colours if c not in (None, "none")]):
                    yield Limitation(
                        "poor_quality",
                        f"{asset.replace('_', ' ')}: {limit.metric.replace('_', ' ')} is orange or worse in "
                        f"{len(poor)} of {len(rows)} exposures (median "
                        f"{number(statistics.median(_values(rows, limit.metric)))} {limit.unit}; green up to "
                        f"{number(limit.ranges[0][2])}).",
                    )


def _completeness(results: FieldResults) -> Iterator[Limitation]:
    fits = results.table("injections", "efficiency.parquet")
    if fits is None or fits.num_rows == 0:
        yield Limitation(
            "no_efficiency",
            "Nothing was injected: how many real sources were missed is not known.",
        )
        return
    row = fits.to_pylist()[0]
    plateau = row.get("epsilon0")
    if plateau is not None and plateau < _COMPLETENESS:
        yield Limitation(
            "low_completeness",
            f"Even bright injected sources are found in {100 * plateau:.0f} % of all cases only.",
        )


def _labels(results: FieldResults) -> Iterator[Limitation]:
    counts = sample_counts(results.output("training_set"))
    if not counts:
        yield Limitation("no_samples", "This field gave no training samples.")
        return
    labelled = counts["real"] + counts["bogus"]
    if labelled < FEW_LABELS:
        yield Limitation(
            "few_labels",
            f"{labelled} labelled samples ({counts['real']} real, {counts['bogus']} bogus): too few to train "
            "on this field alone.",
        )
    if counts["observed"] == 0 or counts["injected"] == 0:
        only = "injected" if counts["observed"] == 0 else "observed"
        yield Limitation("one_domain", f"All samples are {only}: class may be learnt from where they come.")
    if counts["unlabelled"] > labelled:
        yield Limitation("unlabelled", f"{counts['unlabelled']} of {counts['total']} samples are unlabelled.")


def _archives(results: FieldResults) -> Iterator[Limitation]:
    hosts = sorted({r["served_by"] for r in results.rows("observations") if r.get("served_by")})
    if hosts:
        yield Limitation(
            "served_by",
            f"Images came from {', '.join(hosts)} in place of the archives, a stand-in or a mirror: "
            "they are what it made of them.",
        )
    failed = [r for r in results.rows("observations") if r["status"] == "failed"]
    if failed:
        yield Limitation(
            "failed_search",
            f"{len(failed)} searches failed, so that exposures may be missing: {failed[0]['reason']}.",
        )


def _values(rows: Sequence[Row], metric: str) -> list[float]:
    values = (row.get(f"metric_{metric}") for row in rows)
    return [value for value in values if value is not None]
