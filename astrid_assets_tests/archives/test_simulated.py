"""Images of the simulated survey against their truth tables, and the archive that serves them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives.protocol import Archive, Exposure
from astrid_assets.archives.simulated import SimulatedArchive
from astrid_assets.archives.simulated.cadence import visits
from astrid_assets.archives.simulated.exposure import expose
from astrid_assets.archives.simulated.products import CORRUPTIONS, corruption
from astrid_assets.archives.simulated.reference import choose_frames, stack
from astrid_assets.archives.simulated.survey import BANDS, GAIN, READ_NOISE, SATURATION
from astrid_assets.archives.simulated.tile import Tile
from astrid_assets.errors import BadAnswerError, NoCoverageError
from astrid_assets.fields import Field, SimulatedOptions, Window

CLOCK = 60935.0
NIGHTS = (60840.0, 60935.0)


def field_of(**options) -> Field:
    """Return a small field of the simulated survey."""
    options = {"seed": 5, "shape": (256, 288), **options}
    return Field(
        name="small",
        ra=335.0,
        dec=22.0,
        radius=0.05,
        archives=("simulated",),
        bands=("g", "r"),
        science_window=Window(start="2025-08-20"),
        reference_window=Window(end="2025-03-01"),
        simulated=SimulatedOptions(**options),
    )


def tile_of(**options) -> Tile:
    """Return the tile of a small field."""
    return Tile.of(field_of(**options))


@pytest.fixture(scope="module")
def clean():
    """Return a large clean exposure without dirt."""
    tile = tile_of(dirt=False, corrupt=False, shape=(700, 720))
    return expose(tile, next(visits(tile, "r", *NIGHTS)))


@pytest.fixture(scope="module")
def dirty():
    """Return a large exposure with all dirt."""
    tile = tile_of(corrupt=False, shape=(700, 720))
    return expose(tile, next(visits(tile, "r", *NIGHTS)))


@pytest.fixture(scope="module")
def reference():
    """Return a reference and its tile."""
    tile = tile_of(corrupt=False, shape=(600, 620))
    return stack(tile, choose_frames(tile, list(visits(tile, "r", 60500.0, 60735.0))))


def isolated(
    table: dict[str, np.ndarray], shape: tuple[int, int], *, faint: float, bright: float, far: float
):
    """Return the indices of constant stars in a flux range with little other light near them."""
    shining = np.isfinite(table["flux"]) & np.isin(
        table["kind"], ["star", "variable", "galaxy", "transient", "asteroid"]
    )
    x, y, flux = (table[name][shining] for name in ("x", "y", "flux"))
    chosen = []
    for i in np.flatnonzero(table["kind"] == "star"):
        inside = far < table["x"][i] < shape[1] - far and far < table["y"][i] < shape[0] - far
        if not (inside and faint < table["flux"][i] < bright):
            continue
        away = np.hypot(x - table["x"][i], y - table["y"][i])
        if flux[(away > 0) & (away < far)].sum() < 0.01 * table["flux"][i]:
            chosen.append(i)
    return np.array(chosen)


def columns(truth) -> dict[str, np.ndarray]:
    """Return a truth table as arrays."""
    table = truth.to_table()
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def aperture(image: np.ndarray, x: float, y: float, radius: float) -> float:
    """Return the sum in an aperture minus the median sky around it."""
    rows, cols = np.ogrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(cols - x, rows - y)
    inner, ring = away < radius, (away > radius + 2) & (away < radius + 8)
    return float(image[inner].sum() - np.median(image[ring]) * inner.sum())


def test_aperture_flux_is_the_true_flux(clean):
    """Aperture sums of isolated stars equal the true fluxes but for the light in the far wings."""
    truth = columns(clean.truth)
    stars = isolated(truth, clean.data.shape, faint=4000, bright=1e5, far=24.0)
    assert stars.size >= 5
    ratios = [aperture(clean.data, truth["x"][i], truth["y"][i], 14.0) / truth["flux"][i] for i in stars]
    assert np.median(ratios) == pytest.approx(0.985, abs=0.012)


def test_flux_follows_magnitude_and_transparency(clean):
    """The true flux is 10^(-0.4 (mag - zero point)) where there are neither clouds nor flat residuals."""
    truth = columns(clean.truth)
    star = np.isin(truth["kind"], ["star", "transient"])
    expected = 10 ** (-0.4 * (truth["mag"][star] - clean.state.zeropoint))
    np.testing.assert_allclose(truth["flux"][star], expected, rtol=1e-9)


def test_noise_is_that_of_the_model(clean):
    """Counts scatter around the model with its Poisson noise and the read noise, also on sources."""
    variance = clean.model / GAIN + (READ_NOISE / GAIN) ** 2
    pull = (clean.data - clean.model) / np.sqrt(variance)
    unsaturated = (clean.model < 0.5 * SATURATION) & (clean.data < 0.9 * SATURATION)
    assert np.std(pull[unsaturated]) == pytest.approx(1.0, abs=0.005)
    assert np.mean(pull[unsaturated]) == pytest.approx(0.0, abs=0.01)
    bright = unsaturated & (clean.model > 5 * clean.state.sky)
    assert np.std(pull[bright]) == pytest.approx(1.0, abs=0.06)


def test_dirt_is_in_the_image_and_in_the_truth(dirty):
    """Cosmic rays, hot pixels and columns stand where the truth says; the mask has most, not all."""
    truth = columns(dirty.truth)
    rays = truth["kind"] == "cosmic_ray"
    assert 3 <= rays.sum() <= 40
    hot = np.flatnonzero((truth["kind"] == "hot_pixel") & (truth["flux"] > 200))
    for i in hot:
        x, y = int(truth["x"][i]), int(truth["y"][i])
        assert dirty.data[y, x] > dirty.state.sky + 100
        assert bool(dirty.mask[y, x] & 1 << 4) == truth["flagged"][i]
    assert {"flat_residual", "hot_pixel", "cosmic_ray"} <= set(truth["kind"])
    assert np.mean(dirty.mask & 1 << 1 > 0) > 0.01  # sources are marked, and that is no defect


def test_cosmic_rays_are_not_all_flagged():
    """Over some exposures the mask lacks about a fifth of the cosmic rays."""
    tile = tile_of(corrupt=False, shape=(256, 256))
    flags = np.concatenate(
        [
            t["flagged"][t["kind"] == "cosmic_ray"]
            for t in (columns(expose(tile, v).truth) for v in list(visits(tile, "r", *NIGHTS))[:16])
        ]
    )
    assert 0.5 < flags.mean() < 0.97


def test_saturated_stars_bleed_along_columns():
    """A very bright star is cut at the full well, bleeds along its column and is flagged."""
    from astrid_assets.archives.simulated.dirt import bleed

    image, mask = np.full((101, 101), 100.0, np.float32), np.zeros((101, 101), np.int16)
    image[48:53, 48:53] = 4 * SATURATION
    bleed(image, mask)
    assert image.max() == SATURATION
    full = image == SATURATION
    assert full.sum(axis=0).max() > 3 * full.sum(axis=1).max()
    assert mask[50, 50] == 1 << 8
    assert np.all(full[mask > 0])


def test_reference_noise_map(reference):
    """Blank pixels of the coadd scatter as the noise map says, and their noise is correlated."""
    truth = columns(reference.truth)
    data, noise = reference.data, reference.noise
    rows, cols = np.mgrid[: data.shape[0], : data.shape[1]]
    blank = reference.coverage == reference.coverage.max()
    for x, y, flux in zip(truth["x"], truth["y"], truth["flux"], strict=True):
        if np.isfinite(flux):
            radius = 6 + 3 * np.log10(max(flux, 10) / 10)
            box = tuple(slice(max(int(c - radius), 0), max(int(c + radius) + 2, 0)) for c in (y, x))
            blank[box] &= np.hypot(cols[box] - x, rows[box] - y) > radius
    assert blank.sum() > 3000
    pull = np.where(blank, (data - np.median(data[blank])) / noise, np.nan)
    scatter = 1.4826 * np.nanmedian(np.abs(pull))
    assert scatter == pytest.approx(1.0, abs=0.05)
    both = np.isfinite(pull[:, 1:]) & np.isfinite(pull[:, :-1]) & (np.abs(pull[:, 1:]) < 4)
    neighbour = np.mean(pull[:, 1:][both] * pull[:, :-1][both]) / scatter**2
    assert neighbour > 0.05


def test_reference_flux(reference):
    """Aperture sums of isolated stars in the coadd equal the true fluxes at its zero point."""
    truth = columns(reference.truth)
    stars = isolated(truth, reference.data.shape, faint=2500, bright=1e5, far=24.0)
    assert stars.size >= 3
    ratios = [aperture(reference.data, truth["x"][i], truth["y"][i], 14.0) / truth["flux"][i] for i in stars]
    assert np.median(ratios) == pytest.approx(0.985, abs=0.012)
    assert reference.zeropoint == BANDS["r"].zeropoint


def test_reference_has_uneven_depth(reference):
    """The coverage counts frames, less at the edges; pixels that no frame covers are NaN."""
    assert reference.coverage.max() == len(reference.frames)
    assert np.unique(reference.coverage).size > 3
    assert np.array_equal(np.isnan(reference.data), reference.coverage == 0)
    assert reference.data.shape != (600, 620)


def test_search_rows():
    """A search gives science exposures in the window up to now and one earlier reference a band."""
    field = field_of()
    archive = SimulatedArchive(clock=CLOCK)
    assert isinstance(archive, Archive)
    rows = archive.search(field)
    assert len({row.exposure_id for row in rows}) == len(rows)
    stacks = [row for row in rows if row.product == "stack"]
    assert sorted(row.band for row in stacks) == ["g", "r"]
    assert all(row.mjd_end < field.reference_window.end_mjd and row.n_exposures >= 3 for row in stacks)
    taken = [row for row in rows if row.product == "exposure"]
    assert taken
    for row in taken:
        assert field.science_window.contains(row.mjd_start)
        assert row.mjd_end <= CLOCK
        assert row.mjd_mid - row.mjd_start == pytest.approx(15 / 86400, abs=1e-8)
        assert 0.8 < row.seeing < 5.0
        assert 17.5 < row.limiting_magnitude < 22.5
        assert 1.0 <= row.airmass < 2.4


def test_clock_adds_nights_and_changes_nothing():
    """A later clock only adds rows."""
    before = SimulatedArchive(clock=CLOCK).search(field_of())
    after = SimulatedArchive(clock=CLOCK + 12).search(field_of())
    assert set(before) < set(after)


def test_limit_of_epochs():
    """At most the first epochs of each band are offered, where the field says so."""
    rows = SimulatedArchive(clock=CLOCK).search(field_of(max_epochs_per_band=2))
    everything = SimulatedArchive(clock=CLOCK).search(field_of())
    assert sum(row.product == "exposure" for row in rows) == 4
    assert set(rows) < set(everything)


def test_reference_does_not_exist_before_its_last_frame():
    """With the clock before the end of the reference window no stack is offered."""
    rows = SimulatedArchive(clock=58300.0).search(field_of())
    assert not rows


def test_unknown_filter():
    """A filter that the survey has not is no coverage, with its name."""
    field = field_of().model_copy(update={"bands": ("u",)})
    with pytest.raises(NoCoverageError, match="'u'"):
        SimulatedArchive(clock=CLOCK).search(field)


def good_and_broken(**options) -> dict[str | None, Exposure]:
    """Return one exposure of each kind of corruption, and a sound one under None."""
    field = field_of(corrupt_rate=0.75, **options)
    tile, found = Tile.of(field), {}
    for row in SimulatedArchive(clock=CLOCK).search(field):
        if row.product == "exposure":
            visit = next(visits(tile, row.band, row.mjd_start, row.mjd_start + 0.001))
            found.setdefault(corruption(tile, visit), row)
    assert set(found) == {None, *CORRUPTIONS}
    return found


@pytest.fixture(scope="module")
def offered():
    """Return exposures by what is wrong with them."""
    return good_and_broken()


def test_science_files(offered, tmp_path):
    """Files have ZTF's names, headers, mask and PSF, and the sizes that the archive announced."""
    row = offered[None]
    got = SimulatedArchive().download(row, tmp_path / "deep" / "folder")
    assert set(got.files) == {"image", "mask", "psf", "truth"} == set(got.sha256)
    assert got.files["image"].name == f"{row.exposure_id}_sciimg.fits"
    assert got.files["mask"].name == f"{row.exposure_id}_mskimg.fits"
    assert sum(got.files[role].stat().st_size for role in ("image", "mask", "psf")) == row.bytes
    with fits.open(got.files["image"], checksum=True) as hdus:
        header, data = hdus[0].header, hdus[0].data
    assert data.dtype == ">f4"
    assert data.shape == (256, 288)
    assert header["FILTER"] == f"ZTF_{row.band}"
    assert header["OBSMJD"] == pytest.approx(row.mjd_start, abs=1e-8)
    assert header["OBSJD"] == pytest.approx(row.mjd_start + 2400000.5, abs=1e-7)
    assert (header["GAIN"], header["READNOI"], header["EXPTIME"]) == (GAIN, READ_NOISE, 30.0)
    assert header["SEEING"] * 1.01 == pytest.approx(row.seeing, abs=2e-3)
    mask = fits.getdata(got.files["mask"])
    assert mask.dtype == ">i2"
    assert mask.shape == data.shape
    stamp = fits.getdata(got.files["psf"])
    assert stamp.shape == (25, 25)
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (12, 12)
    assert stamp.sum() == pytest.approx(1.0, abs=1e-4)


def test_world_coordinates(offered, tmp_path):
    """The header puts catalogue positions where the truth has them, to the error of the astrometry."""
    got = SimulatedArchive().download(offered[None], tmp_path)
    wcs = WCS(fits.getheader(got.files["image"]))
    truth = pq.read_table(got.files["truth"])
    star = truth["kind"].to_numpy(zero_copy_only=False) == "star"
    ra, dec, x, y = (truth[name].to_numpy()[star] for name in ("ra", "dec", "x", "y"))
    px, py = wcs.wcs_world2pix(ra, dec, 0)
    assert np.median(np.hypot(px - x, py - y)) < 0.35
    back = wcs.wcs_world2pix(wcs.wcs_pix2world(np.stack([px, py], 1), 0), 0)
    np.testing.assert_allclose(back, np.stack([px, py], 1), atol=1e-4)
    corners = wcs.wcs_pix2world([[-0.5, -0.5], [287.5, -0.5], [287.5, 255.5], [-0.5, 255.5]], 0)
    np.testing.assert_allclose(corners, offered[None].footprint, atol=3e-4)


def test_truncated_file(offered, tmp_path):
    """A file that arrives cut short is refused, and nothing of it stays in the folder."""
    with pytest.raises(BadAnswerError, match="truncated"):
        SimulatedArchive().download(offered["truncated"], tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_missing_keyword(offered, tmp_path):
    """A header without a keyword is delivered as it is, and the truth says so."""
    got = SimulatedArchive().download(offered["missing_keyword"], tmp_path)
    header = fits.getheader(got.files["image"])
    assert any(key not in header for key in ("OBSMJD", "MAGZP", "CTYPE1"))
    assert "missing_keyword" in pq.read_table(got.files["truth"])["label"].to_pylist()


def test_wrong_wcs(offered, tmp_path):
    """A wrong WCS is delivered as it is: stars are far from where the header says."""
    got = SimulatedArchive().download(offered["wrong_wcs"], tmp_path)
    truth = pq.read_table(got.files["truth"])
    star = truth["kind"].to_numpy(zero_copy_only=False) == "star"
    wcs = WCS(fits.getheader(got.files["image"]))
    px, py = wcs.wcs_world2pix(truth["ra"].to_numpy()[star], truth["dec"].to_numpy()[star], 0)
    away = np.hypot(px - truth["x"].to_numpy()[star], py - truth["y"].to_numpy()[star])
    assert np.median(away) > 20


def test_reference_files(tmp_path):
    """A reference has ZTF's names, coverage and noise images, and says what was stacked."""
    rows = SimulatedArchive(clock=CLOCK).search(field_of())
    row = next(row for row in rows if row.product == "stack")
    got = SimulatedArchive().download(row, tmp_path)
    assert set(got.files) == {"image", "coverage", "noise", "truth"}
    assert got.files["image"].name.endswith("_refimg.fits")
    assert sum(got.files[r].stat().st_size for r in ("image", "coverage", "noise")) == row.bytes
    header = fits.getheader(got.files["image"])
    assert header["NFRAMES"] == row.n_exposures
    assert header["STRTMJD"] == pytest.approx(row.mjd_start, abs=1e-8)
    assert header["ENDMJD"] == pytest.approx(row.mjd_end, abs=1e-8)
    assert header["GAIN"] == pytest.approx(GAIN * row.n_exposures, rel=0.25)


@pytest.mark.parametrize("url", ["https://example.org/x.fits", "simulated:?product=science&band=r", ""])
def test_foreign_locator(url, offered, tmp_path):
    """A locator that is none of this survey's is refused."""
    from dataclasses import replace

    with pytest.raises(BadAnswerError, match="no locator"):
        SimulatedArchive().download(replace(offered[None], url=url), tmp_path)


def test_the_same_bytes_in_any_order_and_process(tmp_path):
    """Files depend on the exposure alone: not on what was made before, nor on the process."""
    rows = SimulatedArchive(clock=CLOCK).search(field_of(corrupt=False))[1:4]
    forward = [SimulatedArchive().download(row, tmp_path / "a").sha256 for row in rows]
    backward = [SimulatedArchive().download(row, tmp_path / "b").sha256 for row in reversed(rows)]
    assert forward == backward[::-1]
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from astrid_assets.archives.simulated import SimulatedArchive\n"
        "from astrid_assets.archives.protocol import Exposure\n"
        f"row = {rows[-1]!r}\n"
        "print(SimulatedArchive().download(row, Path(sys.argv[1])).sha256['image'])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout.strip() == forward[-1]["image"]


def test_seed_makes_another_universe():
    """Another seed has another sky."""
    one, two = (SimulatedArchive(clock=CLOCK).search(field_of(seed=seed)) for seed in (5, 6))
    assert {row.mjd_start for row in one}.isdisjoint(row.mjd_start for row in two)
