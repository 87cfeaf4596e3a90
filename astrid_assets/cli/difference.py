"""``astrid difference``: one pair of FITS files, without Dagster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrid_assets.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    import pyarrow as pa

    from astrid_assets.images import AlignedPair, Difference, MaskedImage

__all__ = ["difference", "difference_pair"]

SHOWN_METRICS = (
    "noise_level",
    "detection_threshold",
    "dynamic_range",
    "scorr_mad_std",
    "residual_footprint_ratio",
)
SHOWN_CANDIDATES = 10
SHOWN_COLUMNS = ["x", "y", "ra", "dec", "flux", "flux_error", "snr", "artifact"]
DECIMALS = {"ra": 6, "dec": 6}  # degrees: 0.004 arcsec

_FILE = click.Path(exists=True, dir_okay=False)


@click.command()
@click.argument("science", type=_FILE)
@click.argument("reference", type=_FILE)
@click.option("-o", "--output", "folder", required=True, type=click.Path(file_okay=False), help="Folder.")
@click.option("--survey", help="Survey profile of both files [guessed from the headers].")
@click.option("--hdu", help="Number or name of the extension, in files with several images.")
@click.option("--assume-aligned", is_flag=True, help="Take the pixel grids as equal (images without WCS).")
@click.option("--gain", type=float, help="Electrons per unit, where the headers do not say.")
@click.option("--saturation", type=float, help="Saturation level, where the headers do not say.")
@click.option("--threshold", type=float, default=5.0, show_default=True, help="Detection limit, |S_corr|.")
@json_option
def difference(folder: str, as_json: bool, **options: Any) -> None:
    """Subtract REFERENCE from SCIENCE: both differences, candidates and a figure."""
    summary = difference_pair(folder=Path(folder), **options)
    _print(summary)
    if as_json:
        print_json(summary)


def difference_pair(
    science: str | Path,
    reference: str | Path,
    folder: Path,
    *,
    survey: str | None = None,
    hdu: int | str | None = None,
    assume_aligned: bool = False,
    gain: float | None = None,
    saturation: float | None = None,
    threshold: float = 5.0,
) -> dict[str, Any]:
    """Difference two files and write everything to a folder.

    Parameters
    ----------
    science, reference
        FITS files; masks, weights, noise maps and PSFs beside them are found by the survey profile.

    folder
        Gets ``zogy.fits``, ``classic.fits``, ``candidates.parquet``, ``candidates.csv`` and
        ``figure.png``.

    survey
        Survey profile of both files; guessed from the headers by default.

    hdu
        Number or name of the extension with the image, for both files.

    assume_aligned
        Take the two pixel grids as equal; candidates then have no sky position unless the
        science image has a WCS.

    gain, saturation
        Electrons per unit and level of saturation, where the headers do not say.

    threshold
        Least significance of a candidate.

    Returns
    -------
    dict
        Summary for people and programs: registration, flux ratio, metrics of both methods,
        number of candidates, the most significant of them, files, seconds.

    Raises
    ------
    ImageError, ScienceError
        A file cannot be read, or the pair cannot be differenced.
    """
    from astrid_assets.images import read_image
    from astrid_assets.science import align, classic, detect, normalize, zogy

    started = time.perf_counter()
    known = {"gain": gain, "saturation": saturation}
    assume = {name: value for name, value in known.items() if value is not None}
    place = int(hdu) if isinstance(hdu, str) and hdu.isdecimal() else hdu
    images = [
        _named(read_image(path, survey=survey, hdu=place, **assume), path) for path in (science, reference)
    ]
    pair = normalize(align(*images, assume_aligned=assume_aligned))
    results = {"zogy": zogy(pair), "classic": classic(pair)}
    table = detect(results["zogy"], pair=pair, threshold=threshold)
    files = _write(folder, pair, results, table)
    return {
        "science": str(science),
        "reference": str(reference),
        **_describe(pair, results, table),
        "files": files,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _named(image: MaskedImage, path: str | Path) -> MaskedImage:
    """Give an image the name of its file, so that results say what they were made of."""
    return image.replace(origin={"exposure_id": Path(path).name.split(".fit")[0], **image.origin})


def _write(folder: Path, pair: AlignedPair, results: dict[str, Difference], table: pa.Table) -> list[str]:
    import pyarrow.csv

    from astrid_assets.images import write_difference
    from astrid_assets.reports.pair_figure import difference_figure
    from astrid_assets.storage import Store

    store = Store(str(folder))
    for method, result in results.items():
        with store.writing(f"{method}.fits") as stream:
            write_difference(stream, result)
    store.write_table("candidates.parquet", table)
    with store.writing("candidates.csv") as stream:
        pyarrow.csv.write_csv(table, stream)
    store.write_bytes("figure.png", difference_figure(pair, results["zogy"], table))
    store.remove_staging()
    names = [*(f"{method}.fits" for method in results), "candidates.parquet", "candidates.csv", "figure.png"]
    return [str(folder / name) for name in names]


def _describe(pair: AlignedPair, results: dict[str, Difference], table: pa.Table) -> dict[str, Any]:
    from astrid_assets.science.quality import difference_metrics

    registration, scale = pair.registration, pair.normalization
    believed = [row for row in table.select(SHOWN_COLUMNS).to_pylist() if not row["artifact"]]
    return {
        "overlap": pair.overlap,
        "registration": registration.method,
        "matched_stars": registration.n_matched,
        "residual_rms": list(registration.residual_rms),
        "flux_ratio": scale.flux_ratio,
        "flux_ratio_error": scale.flux_ratio_error,
        "metrics": {method: difference_metrics(result, pair) for method, result in results.items()},
        "detections": table.num_rows,
        "candidates": len(believed),
        "strongest": [_shown(row) for row in believed[:SHOWN_CANDIDATES]],
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "artifact"}


def _print(summary: dict[str, Any]) -> None:
    click.echo(
        f"overlap {summary['overlap']:.1%}, registration {summary['registration']} "
        f"({summary['matched_stars']} stars), flux ratio {summary['flux_ratio']:.4f} "
        f"+- {summary['flux_ratio_error']:.4f}"
    )
    methods = list(summary["metrics"])
    rows = [[name, *(summary["metrics"][m].get(name) for m in methods)] for name in SHOWN_METRICS]
    print_table(["metric", *methods], [row for row in rows if any(value is not None for value in row[1:])])
    click.echo(
        f"{summary['candidates']} candidates, {summary['detections']} detections with the flagged ones"
    )
    strongest = summary["strongest"]
    if strongest:
        print_table(list(strongest[0]), [list(row.values()) for row in strongest], decimals=DECIMALS)
    for file in summary["files"]:
        click.echo(file)
