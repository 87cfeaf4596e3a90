"""Transients found in the simulated survey, pooled over seeds and fields.

``python -m astrid_assets_tests.benchmarks.transients`` runs the public functions of
`astrid_assets.science` on the files of the archive, without Dagster, and prints one JSON object:
shares found with Wilson intervals (clean, masked, edge), unexplained detections per Mpix and sign,
share of clean pixels that are masked, dirt by kind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from astrid_assets.archives.simulated import SimulatedArchive
from astrid_assets.errors import BadAnswerError, ImageError, ScienceError
from astrid_assets.fields import Field
from astrid_assets.images import MaskedImage, read_image
from astrid_assets.reports.scoring import ExposureScore, FieldScore, Searched, report, score_exposure
from astrid_assets.science import align, classic, detect, normalize, zogy

CLOCK = 60957.5
"""MJD (UTC) of the present: 2025-10-09."""

POSITIONS = ((265.0, 62.0), (12.0, -4.0), (335.0, 22.0), (40.0, 30.0), (300.0, 45.0), (355.0, -12.0))
"""Centres (ra, dec) in degrees of the pieces of sky, up when the clock stands."""

METHODS = {"zogy": zogy, "classic": classic}


def simulated_field(
    seed: int, ra: float, dec: float, bands: tuple[str, ...], epochs: int, side: int
) -> Field:
    """Return a field of the simulated survey, without broken files."""
    return Field(
        name=f"bench_{seed}_{ra:.0f}",
        ra=ra,
        dec=dec,
        radius=0.15,
        archives=("simulated",),
        bands=bands,
        science_window={"start": "2025-07-01"},
        reference_window={"end": "2025-03-01"},
        simulated={"seed": seed, "shape": (side, side), "corrupt": False, "max_epochs_per_band": epochs},
    )


def load(archive: SimulatedArchive, exposure, folder: Path) -> tuple[MaskedImage, pa.Table]:
    """Download an exposure; return its image and its truth."""
    files = archive.download(exposure, folder / exposure.exposure_id).files
    return read_image(files["image"], survey=exposure.survey), pq.read_table(files["truth"])


def search(
    name: str, science: MaskedImage, reference: MaskedImage, truths: tuple[pa.Table, pa.Table], method: str
) -> ExposureScore:
    """Difference a pair, detect, and compare with the truth."""
    pair = normalize(align(science, reference))
    difference = METHODS[method](pair)
    table = detect(difference, pair=pair)
    searched = Searched(difference.mask, difference.flux_error, difference.psf.fwhm, science.pixel_scale)
    return score_exposure(name, *truths, searched, table)


def run_field(field: Field, folder: Path, method: str) -> FieldScore:
    """Score all exposures of a field."""
    archive = SimulatedArchive(clock=CLOCK)
    rows = archive.search(field)
    references = {r.band: load(archive, r, folder) for r in rows if r.product == "stack"}
    scores, states = [], {}
    for row in (r for r in rows if r.product == "exposure" and r.band in references):
        reference, reference_truth = references[row.band]
        try:
            science, truth = load(archive, row, folder)
            scores.append(search(row.exposure_id, science, reference, (truth, reference_truth), method))
        except (BadAnswerError, ImageError, ScienceError) as error:
            states[row.exposure_id] = f"{type(error).__name__}: {error}"
    return FieldScore(field.name, tuple(scores), states=states)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--positions", type=int, default=len(POSITIONS), help="pieces of sky a seed")
    parser.add_argument("--bands", nargs="+", default=["g", "r"])
    parser.add_argument("--epochs", type=int, default=3, help="epochs a band")
    parser.add_argument("--side", type=int, default=1024, help="side of an image in pixels")
    parser.add_argument("--method", choices=METHODS, default="zogy")
    parser.add_argument("--details", action="store_true", help="print every loss and false detection too")
    options = parser.parse_args(arguments)
    fields, started = [], time.process_time()
    for seed in options.seeds:
        for ra, dec in POSITIONS[: options.positions]:
            field = simulated_field(seed, ra, dec, tuple(options.bands), options.epochs, options.side)
            with tempfile.TemporaryDirectory() as folder:
                fields.append(run_field(field, Path(folder), options.method))
            sys.stderr.write(f"{field.name}: {json.dumps(report(fields)['transients']['clean'])}\n")
    if options.details:
        sys.stderr.write("\n".join(details(fields)) + "\n")
    result = {"cpu_seconds": round(time.process_time() - started, 1), **report(fields)}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def details(fields: list[FieldScore]) -> list[str]:
    """Return one line for each clean transient lost and each unexplained detection."""
    lines = []
    for score in (e for one in fields for e in one.exposures):
        for v in score.verdicts:
            if v.change.kind == "transient" and abs(v.snr) >= 10 and v.place == "clean" and not v.found:
                c = v.change
                lines.append(
                    f"{score.exposure_id} lost {c.label} {c.x:.1f} {c.y:.1f} {v.snr:.1f} {v.flagged}"
                )
        lines += [f"{score.exposure_id} false {one}" for one in score.unexplained]
    lines += [f"{name} {state}" for one in fields for name, state in one.states.items()]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
