"""Archive ``local``: what a folder offers, what it lacks, and what a download checks."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid_assets.archives.local import LocalArchive
from astrid_assets.archives.protocol import Archive, Exposure
from astrid_assets.errors import BadAnswerError, ConfigurationError, NoCoverageError
from astrid_assets.fields import Field, LocalOptions
from astrid_assets.images import read_image

SHAPE = (40, 60)


def field(folder: Path, **options: object) -> Field:
    return Field(
        name="own", ra=150.0, dec=2.0, radius=0.1, archives=("local",), bands=(),
        local=LocalOptions(folder=str(folder), **options),
    )  # fmt: skip


def write(path: Path, *, wcs: bool = True, data: np.ndarray | None = None, **cards: object) -> Path:
    header = fits.Header(
        {"INSTRUME": "cam 1", "FILTER": "R", "MJD-OBS": 59000.25, "EXPTIME": 60.0, "GAIN": 2.0}
    )
    if wcs:
        header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0})
        header.update({"CRPIX1": 30.5, "CRPIX2": 20.5, "CDELT1": -1e-3, "CDELT2": 1e-3, "RADESYS": "ICRS"})
    for key, value in cards.items():
        header[key.replace("_", "-")] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.ones(SHAPE, np.float32) if data is None else data, header).writeto(path)
    return path


def search(folder: Path, **options: object) -> dict[str, Exposure]:
    rows = LocalArchive().search(field(folder, **options))
    assert len({r.exposure_id for r in rows}) == len(rows)
    return {r.exposure_id: r for r in rows}


def test_it_is_an_archive() -> None:
    assert isinstance(LocalArchive(), Archive)


def test_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "night 1" / "a b.fits")
    row = search(tmp_path)["night_1+a_b"]
    assert row.problem is None
    assert (row.archive, row.survey, row.band, row.product) == ("local", "generic", "R", "exposure")
    assert row.detector_type == "generic cam 1"
    assert (row.mjd_start, row.exptime) == (59000.25, 60.0)
    assert row.mjd_end == pytest.approx(59000.25 + 60 / 86400)
    assert row.bytes == path.stat().st_size
    # outer corners: 60 x 40 pixels of 3.6 arcsec around the centre, east to the left
    ra, dec = np.array(row.footprint).T
    np.testing.assert_allclose((ra - 150) * np.cos(np.radians(2)), [0.03, -0.03, -0.03, 0.03], atol=1e-4)
    np.testing.assert_allclose(dec - 2, [-0.02, -0.02, 0.02, 0.02], atol=1e-4)


def test_companions_are_no_rows_and_count_in_the_size(tmp_path: Path) -> None:
    image = write(tmp_path / "a.fits")
    noise = write(tmp_path / "a.noise.fits", data=np.full(SHAPE, 2.0))
    odd_name = write(tmp_path / "a_mask.fits", data=np.zeros(SHAPE, np.int16))
    rows = search(tmp_path)
    assert list(rows) == ["a"]
    assert rows["a"].bytes == sum(p.stat().st_size for p in (image, noise, odd_name))


def test_an_orphan_mask_is_an_image_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "b_mask.fits")
    assert list(search(tmp_path)) == ["b_mask"]


@pytest.mark.parametrize(
    ("cards", "problem", "assume"),
    [
        ({"wcs": False}, "no world coordinates", {"aligned": True}),
        ({"MJD_OBS": "NaN"}, "no time of observation", {"mjd": 59000.0}),
        ({"FILTER": ""}, "no known filter", {"band": "R"}),
    ],
)
def test_what_is_missing_is_a_problem_unless_the_field_states_it(
    tmp_path: Path, cards: dict, problem: str, assume: dict
) -> None:
    write(tmp_path / "a.fits", **cards)
    assert problem in search(tmp_path)["a"].problem
    row = search(tmp_path, assume=assume)["a"]
    assert row.problem is None
    assert (row.footprint == ()) == ("aligned" in assume)
    assert math.isfinite(row.mjd_mid)
    assert row.band == "R"


def test_an_assumption_never_wins_over_the_header(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    assert search(tmp_path, assume={"band": "V", "mjd": 50000.0})["a"].band == "R"
    assert search(tmp_path, assume={"mjd": 50000.0})["a"].mjd_start == 59000.25


def test_files_that_hold_no_image_are_rows_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "page.fits").write_text("<html>" * 1000)
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    rows = search(tmp_path)
    assert rows["page"].problem == "is not a FITS file"
    assert rows["empty"].problem == "holds no image"


def test_wrong_scales_and_plates_are_problems(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", INSTRUME="DECam", FILTER="r DECam SDSS c0002 6415.0 1480.0")
    assert search(tmp_path)["a"].problem == "pixel scale 3.6 arcsec is not that of decam (0.25 to 0.28)"
    write(tmp_path / "b.fits", SURVEY="DSS2 Red")
    assert "photographic plate" in search(tmp_path)["b"].problem


def test_a_survey_can_be_named(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", FILTER="zr")
    assert search(tmp_path)["a"].band == "zr"
    row = search(tmp_path, survey="ztf")["a"]
    assert (row.survey, row.band) == ("ztf", "r")


def test_pattern_and_hidden_files(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    write(tmp_path / "deep" / "er" / "b.fits.gz")
    write(tmp_path / ".trash" / "c.fits")
    assert list(search(tmp_path)) == ["a", "deep+er+b"]
    assert list(search(tmp_path, pattern="b*")) == ["deep+er+b"]


def test_no_folder_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"field own: folder .*gone is not there"):
        LocalArchive().search(field(tmp_path / "gone"))
    with pytest.raises(ConfigurationError, match=r"has no folder; add local\.folder"):
        LocalArchive().search(Field(name="own", ra=1, dec=2, radius=0.1, archives=("simulated",), bands=()))
    (tmp_path / "bare").mkdir()
    assert LocalArchive().search(field(tmp_path / "bare")) == []


def test_a_search_reads_no_pixels(tmp_path: Path) -> None:
    """A header that promises more pixels than there are is only found out by the download."""
    path = write(tmp_path / "a.fits", data=np.ones((400, 400), np.float32))
    path.write_bytes(path.read_bytes()[:-100_000])
    row = search(tmp_path)["a"]
    assert row.problem == "is cut off: it is shorter than its headers say"
    with pytest.raises(BadAnswerError, match=r"^a\.fits: is cut off"):
        LocalArchive().download(row, tmp_path / "out")


def test_download_copies_everything_with_checksums(tmp_path: Path) -> None:
    image = write(tmp_path / "in" / "a.fits")
    noise = write(tmp_path / "in" / "a.noise.fits", data=np.full(SHAPE, 2.0))
    got = LocalArchive().download(search(tmp_path / "in")["a"], tmp_path / "out")
    assert {k: v.name for k, v in got.files.items()} == {"image": "a.fits", "noise": "a.noise.fits"}
    for role, source in (("image", image), ("noise", noise)):
        assert got.files[role].read_bytes() == source.read_bytes()
        assert got.sha256[role] == hashlib.sha256(source.read_bytes()).hexdigest()
    np.testing.assert_array_equal(read_image(got.files["image"]).variance, 4.0)


def test_download_of_what_changed_or_went(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    row = search(tmp_path)["a"]
    path.unlink()
    with pytest.raises(NoCoverageError, match="is no longer there; search again"):
        LocalArchive().download(row, tmp_path / "out")
    write(tmp_path / "a.fits", EXPTIME=61.0)
    with pytest.raises(BadAnswerError, match="has changed since it was indexed"):
        LocalArchive().download(row, tmp_path / "out")


def test_the_revision_tells_edits_and_new_companions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    before = search(tmp_path)["a"].revision
    assert search(tmp_path)["a"].revision == before
    fits.setval(path, "OBSERVER", value="me")
    edited = search(tmp_path)["a"].revision
    assert edited != before
    write(tmp_path / "a.noise.fits")
    assert search(tmp_path)["a"].revision != edited


# --- real folders -------------------------------------------------------------------------------


@pytest.mark.real_data
def test_jwst_folder(real_data: Path, tmp_path: Path) -> None:
    """Eight files are two exposures: noise maps, PSFs and the published S/N map are none."""
    rows = search(real_data / "pairs/jwst_nircam_a2744")
    assert [round(r.mjd_mid, 2) for r in rows.values()] == [59759.41, 59885.58]
    assert {(r.survey, r.band, r.product, r.problem) for r in rows.values()} == {
        ("jwst-nircam", "F200W", "exposure", None)
    }
    first = next(iter(rows.values()))
    got = LocalArchive().download(first, tmp_path)
    assert got.files.keys() == {"image", "noise", "psf"}
    image = read_image(got.files["image"])
    assert image.psf is not None
    assert image.variance is not None


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "count"), [("decam_tc4_r", 3), ("decam_tc4_g", 2)])
def test_decam_folders(real_data: Path, folder: str, count: int) -> None:
    """Nights of two pipeline versions that calibrate alike share one pairing key."""
    rows = search(real_data / "pairs" / folder)
    assert len(rows) == count
    assert all(r.problem is None for r in rows.values())
    assert len({(r.survey, r.detector_type, r.band, r.calibration) for r in rows.values()}) == 1
    assert all(1.1 < r.seeing < 1.6 for r in rows.values())


@pytest.mark.real_data
def test_eso_folder_needs_the_fields_word(real_data: Path) -> None:
    folder = real_data / "pairs/properimage_eso085"
    assert all("no world coordinates" in r.problem for r in search(folder).values())
    stated = search(folder, assume={"aligned": True, "gain": 1.4})
    assert all(r.problem is None and r.footprint == () for r in stated.values())


@pytest.mark.real_data
def test_everything_odd_is_a_row(real_data: Path) -> None:
    rows = search(real_data / "odd")
    assert len(rows) >= 45
    assert all(r.problem is None or "\n" not in r.problem for r in rows.values())


@pytest.mark.real_data
def test_a_stack_of_years_is_a_stack(real_data: Path) -> None:
    rows = search(real_data / "pairs/hostphot_sn2006bh")
    assert {k: r.product for k, r in rows.items() if k.endswith("_g")} == {
        "DES_g": "exposure",
        "PS1_g": "stack",
        "SDSS_g": "exposure",
    }
