"""Pan-STARRS1 cutouts: what is offered, when it was taken, and whether what came is what was asked for."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from astrid_assets.archives import ps1
from astrid_assets.archives.availability import missions
from astrid_assets.archives.footprints import coverage
from astrid_assets.archives.pairing import pair_exposures
from astrid_assets.archives.protocol import Archive, Exposure
from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.ps1 import handlers
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.archives.transport import Transport
from astrid_assets.errors import BadAnswerError, NoCoverageError
from astrid_assets.fields import Event, Field, Ps1Options, Window
from astrid_assets.images import read_image
from astrid_assets.images.masks import bits

RA, DEC = 210.774, 54.2737  # SN 2011fe
HEADER = "projcell subcell ra dec filter mjd type filename shortname badflag\n"
STACK = "/rings.v3.skycell/1405/053/rings.v3.skycell.1405.053.stk.g.unconv.fits"
ROW = f"1405 53 332.6004516572 2.1998090576 g 0.0 stack {STACK} {STACK.rsplit('/', 1)[1]} 0\n"


def field(
    *, ra: float = RA, dec: float = DEC, arcsec: float | None = 40.0, product: str = "stack", **more: object
) -> Field:
    options = Ps1Options(size_arcsec=arcsec, product=product)
    return Field(name="m101", ra=ra, dec=dec, radius=0.01, archives=("ps1",), ps1=options, **more)


def opened(standin: StandIn, store: Path) -> ps1.Ps1Archive:
    services = {name: {**s, "per_second": 1e4, "backoff": 1e-3} for name, s in standin.services().items()}
    return ps1.Ps1Archive(Transport.open(services, store))


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn(handlers()) as server:
        yield server
        assert server.errors == []


# --- requests and answers -----------------------------------------------------------------------


def test_the_list_of_files_is_asked_for_in_full_precision():
    request = ps1.filenames_request(210.80242917, -2.5, bands="gr", types=("stack", "stack.wt"))
    assert request.path == "/cgi-bin/ps1filenames.py"
    assert dict(request.query) == {
        "ra": "210.80242917",
        "dec": "-2.50000000",
        "filters": "gr",
        "type": "stack,stack.wt",
    }


def test_a_cutout_is_asked_for_as_fits_and_a_picture_as_jpeg():
    cutout = ps1.cutout_request(STACK, 332.6, 2.2, size=240)
    assert dict(cutout.query) == {
        "red": STACK, "format": "fits", "x": "332.60000000", "y": "2.20000000", "size": "240", "wcs": "1",
    }  # fmt: skip
    assert (cutout.expects, cutout.kind) == ("fits", "file")
    picture = ps1.display_request(["/i", "/r", "/g"], 332.6, 2.2, size=240, output_size=100)
    sent = dict(picture.query)
    assert (sent["red"], sent["green"], sent["blue"]) == ("/i", "/r", "/g")
    assert (sent["format"], sent["output_size"], picture.expects) == ("jpg", "100", "image")


@pytest.mark.parametrize("size", [0, 6001])
def test_what_fitscut_does_not_make_is_not_asked_for(size: int):
    with pytest.raises(ValueError, match="1 to 6000 pixels"):
        ps1.cutout_request(STACK, 332.6, 2.2, size=size)


def test_rows_of_the_list():
    (row,) = ps1.parse_filenames((HEADER + ROW).encode())
    assert (row.skycell, row.filter, row.mjd, row.type, row.badflag) == ("1405.053", "g", 0.0, "stack", 0)
    assert (row.ra, row.dec, row.filename) == (332.6004516572, 2.1998090576, STACK)
    west = ROW.replace("332.6004516572", "-0.1999643937")
    assert ps1.parse_filenames((HEADER + west).encode())[0].ra == pytest.approx(359.8000356063)


def test_the_list_without_its_newest_column():
    (row,) = ps1.parse_filenames((HEADER.replace(" badflag", "") + ROW.replace(" 0\n", "\n")).encode())
    assert row.badflag == 0


def test_an_empty_list_is_an_answer():
    assert ps1.parse_filenames(HEADER.encode()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>down</html>",
        b"ERROR: database",
        (HEADER + ROW[:60]).encode(),
        (HEADER + ROW.replace("2.1998090576", "north")).encode(),
    ],
)
def test_anything_else_is_none(content: bytes):
    with pytest.raises(BadAnswerError, match=r"^ps1: .{3,}"):
        ps1.parse_filenames(content)


# --- real cutouts -------------------------------------------------------------------------------


def _real(real_data: Path, name: str) -> Path:
    return real_data / "pairs/hostphot_sn2006bh" / name


def _asked(path: Path) -> tuple[float, float, int]:
    """Return centre and size of a real cutout."""
    header = fits.getheader(path)
    size = header["NAXIS1"]
    with pytest.warns(match="deprecated|datfix"):
        wcs = WCS(header)
    ra, dec = (float(v) for v in wcs.wcs_pix2world((size - 1) / 2, (size - 1) / 2, 0))
    return ra, dec, size


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["PS1_g.fits", "PS1_r.fits"])
def test_a_real_cutout_is_where_it_was_asked_for(real_data: Path, name: str):
    path = _real(real_data, name)
    ra, dec, size = _asked(path)
    assert ps1._misplaced(path, ps1._Cutout(ra, dec, size), ()) is None
    assert "beside" in str(ps1._misplaced(path, ps1._Cutout(ra, dec + 3 * 0.25 / 3600, size), ()))
    assert "beside" in str(ps1._misplaced(path, ps1._Cutout(ra + 180.0, dec, size), ()))
    assert "more than the 200" in str(ps1._misplaced(path, ps1._Cutout(ra, dec, 200), ()))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["SDSS_g.fits", "DES_g.fits"])
def test_images_of_other_surveys_are_refused(real_data: Path, name: str):
    path = _real(real_data, name)
    ra, dec, size = _asked(_real(real_data, "PS1_g.fits"))
    assert "arcsec, not 0.25" in str(ps1._misplaced(path, ps1._Cutout(ra, dec, size), ()))


@pytest.mark.real_data
def test_a_real_cutout_is_linear_and_calibrated(real_data: Path):
    """No BSOFTEN: the pixels stay; 25 + 2.5 log10(860 s); inputs of MJD 55479 to 56632."""
    path = _real(real_data, "PS1_g.fits")
    assert "BSOFTEN" not in fits.getheader(path)
    image = read_image(path)
    assert np.array_equal(image.data, fits.getdata(path))
    assert image.zeropoint.magnitude == pytest.approx(25 + 2.5 * math.log10(860.0))
    observed = missions()["PS1"].observed
    assert observed.start_mjd < image.mjd_start == 55479
    assert image.mjd_end == 56633 < observed.end_mjd


@pytest.mark.real_data
def test_the_real_sky_cell_holds_the_real_cutout(real_data: Path):
    """Sky cell 1329.005 by the tessellation: 0.2 deg west and 1.8 deg south of (28, 2)."""
    path = _real(real_data, "PS1_g.fits")
    ra, dec, size = _asked(path)
    name = STACK.replace("1405", "1329").replace("053", "005")
    row = f"1329 5 27.8 0.2 g 0.0 stack {name} {name.rsplit('/', 1)[1]} 0\n"
    (cell,) = ps1.parse_filenames((HEADER + row).encode())
    cutout = ps1._Cutout(ra, dec, size)
    assert not cutout.leaves(cell)
    footprint = read_image(path).wcs.calc_footprint()
    assert coverage([tuple(c) for c in footprint], cutout.inside(cell)) > 0.999
    assert ps1._Cutout(ra, dec, 3000).leaves(cell)


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.service
def test_a_stack_in_each_band(standin: StandIn, tmp_path: Path):
    archive = opened(standin, tmp_path)
    assert isinstance(archive, Archive)
    rows = archive.search(field())
    assert standin.count("ps1") == 1
    assert sorted(row.band for row in rows) == ["g", "i", "r", "y", "z"]
    row = next(r for r in rows if r.band == "r")
    assert (row.archive, row.survey, row.detector_type, row.product) == ("ps1", "ps1", "gpc1", "stack")
    assert row.problem is None
    assert row.n_exposures is None
    assert (row.mjd_start, row.mjd_end) == (Time("2009-06-02").mjd, Time("2015-02-26").mjd)
    assert row.bytes == pytest.approx(3 * 4 * 160**2, rel=0.2)
    assert coverage(row.footprint, row.footprint) == 1.0
    assert {r.band for r in archive.search(field(bands=("g", "r", "F200W")))} == {"g", "r"}


@pytest.mark.service
def test_nothing_outside_the_footprint(standin: StandIn, tmp_path: Path):
    archive = opened(standin, tmp_path)
    assert archive.search(field(dec=-45.0)) == []
    assert archive.search(field(bands=("F200W",))) == []
    assert standin.count("ps1") == 0
    assert archive.search(field(dec=-30.001)) == []  # near the limit the service knows best
    assert standin.count("ps1") == 1


@pytest.mark.service
def test_an_empty_list_of_a_service_in_order_is_nothing(tmp_path: Path):
    with StandIn(handlers(), [Fault("empty_table")]) as server:
        assert opened(server, tmp_path).search(field()) == []


@pytest.mark.service
def test_rows_that_come_three_times_count_once(standin: StandIn, tmp_path: Path):
    with StandIn(handlers(), [Fault("duplicates")]) as server:
        assert opened(server, tmp_path / "a").search(field()) == opened(standin, tmp_path / "b").search(
            field()
        )


@pytest.mark.service
def test_a_wide_field_gets_the_neighbouring_sky_cells(standin: StandIn, tmp_path: Path):
    archive = opened(standin, tmp_path)
    rows = archive.search(field(arcsec=1500.0, bands=("r",)))
    assert standin.count("ps1") == 5
    cells = {row.detector for row in rows}
    assert len(cells) == len(rows) == 4
    cutout = ps1._Cutout(RA, DEC, 6000)
    covered = sum(coverage(cutout.corners(), row.footprint) for row in rows)
    assert covered > 0.99  # together they hold the square; sky cells overlap
    assert max(coverage(cutout.corners(), row.footprint) for row in rows) < 0.99


def _row(**changes: str) -> Exposure:
    row = ROW
    for old, new in changes.values():
        row = row.replace(old, new)
    (file,) = ps1.parse_filenames((HEADER + row).encode())
    from astrid_assets.surveys import load_profile

    return ps1._row(file, ps1._Cutout(332.6, 2.2, 240), {}, load_profile("ps1"))


def test_what_cannot_be_used_says_why():
    assert _row().problem is None
    assert _row(band=(" g ", " w ")).problem == "filter 'w' is none of Pan-STARRS1's"
    assert "badflag 1" in str(_row(flag=(" 0\n", " 1\n")).problem)


def test_the_revision_changes_with_what_is_cut_out():
    (file,) = ps1.parse_filenames((HEADER + ROW).encode())
    from astrid_assets.surveys import load_profile

    rows = [ps1._row(file, ps1._Cutout(332.6, 2.2, n), {}, load_profile("ps1")) for n in (240, 240, 300)]
    assert rows[0].revision == rows[1].revision != rows[2].revision
    assert ps1._located(rows[2].url) == (ps1._Cutout(332.6, 2.2, 300), {"image": STACK})
    with pytest.raises(BadAnswerError, match="no locator"):
        ps1._located("ps1:image=a")


@pytest.mark.service
def test_warps_are_single_epochs(standin: StandIn, tmp_path: Path):
    rows = opened(standin, tmp_path).search(field(product="warp", bands=("r",)))
    assert len(rows) == 12
    assert all(row.product == "exposure" and row.n_exposures == 1 for row in rows)
    assert [row.mjd_start for row in rows] == sorted(row.mjd_start for row in rows)
    for row in rows:
        day, second = row.exposure_id.rsplit(".", 1)[1].split("_")
        tai = Time(int(day), int(second) / 86400.0, format="mjd", scale="tai")
        assert row.mjd_start == pytest.approx(tai.utc.mjd, abs=1e-6)
        assert (row.mjd_end - row.mjd_start) * 86400 == pytest.approx(40.0, abs=1e-3)


# --- pairing ------------------------------------------------------------------------------------


@pytest.mark.service
def test_a_stack_that_may_hold_the_supernova_is_rejected(standin: StandIn, tmp_path: Path):
    """SN 2011fe: the stacks hold exposures of 2009 to 2015."""
    event = Event(name="SN 2011fe", ra=210.774, dec=54.2737, date="2011-08-24")
    for sky_field in (
        field(event=event),
        field(event=event, reference_window=Window(start="2009-01-01", end="2016-01-01")),
    ):
        verdicts = pair_exposures(opened(standin, tmp_path).search(sky_field), sky_field)
        assert len(verdicts) == 5
        for verdict in verdicts:
            assert (verdict.status, verdict.role) == ("rejected", "reference")
            assert str(verdict.reason).startswith("reference may contain SN 2011fe")


@pytest.mark.service
def test_a_stack_serves_an_event_long_after_the_survey(standin: StandIn, tmp_path: Path):
    event = Event(name="SN 2023ixf", ra=RA, dec=DEC, date="2023-05-18")
    verdicts = pair_exposures(opened(standin, tmp_path).search(field(event=event)), field(event=event))
    assert {v.reason for v in verdicts} == {"no science exposure needs it as a reference"}


@pytest.mark.service
def test_warps_pair_with_earlier_warps(standin: StandIn, tmp_path: Path):
    everything = field(product="warp", bands=("r",))
    archive = opened(standin, tmp_path)
    days = sorted({int(row.mjd_start) for row in archive.search(everything)})
    assert len(days) == 6
    middle = Time(days[3], format="mjd").isot[:10]
    before = Time(days[3] - 1, format="mjd").isot[:10]
    windows = {"science_window": Window(start=middle), "reference_window": Window(end=before)}
    sky_field = field(product="warp", bands=("r",), guard_days=0.0, **windows)
    verdicts = pair_exposures(archive.search(sky_field), sky_field)
    assert [v.role for v in verdicts] == ["reference"] * 6 + ["science"] * 6
    assert {v.status for v in verdicts} == {"selected"}


# --- downloads ----------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("product", ["stack", "warp"])
def test_a_download_reads_as_an_image_with_its_planes(standin: StandIn, tmp_path: Path, product: str):
    archive, sky_field = opened(standin, tmp_path / "store"), field(product=product, bands=("r",))
    exposure = archive.search(sky_field)[0]
    download = archive.download(exposure, tmp_path / "files")
    assert sorted(download.files) == ["image", "mask", "variance"] == sorted(download.sha256)
    assert sorted(p.name for p in (tmp_path / "files").iterdir()) == sorted(
        f"{exposure.exposure_id}{plane}.fits" for plane in ("", ".mask", ".wt")
    )
    image = read_image(download.files["image"])
    header = fits.getheader(download.files["image"])
    assert (header["CDELT1"], header["PC001001"]) == (pytest.approx(0.25 / 3600), -1.0)
    per_second = 25.0 if product == "stack" else header["FPA.ZP"]
    exptime = 480.0 if product == "stack" else 40.0
    assert image.zeropoint.magnitude == pytest.approx(per_second + 2.5 * math.log10(exptime))
    assert (image.band, image.survey, image.shape) == ("r", "ps1", (160, 160))
    x, y = image.wcs.all_world2pix(RA, DEC, 0)
    assert math.hypot(x - 79.5, y - 79.5) < 1.5
    if product == "stack":
        assert exposure.mjd_start <= image.mjd_start < image.mjd_end <= exposure.mjd_end
        variance = fits.getdata(download.files["variance"])
        assert np.array_equal(image.variance, variance)
        blank = variance < 1.01 * variance.min()
        assert np.std(image.data[blank]) == pytest.approx(np.sqrt(np.median(variance[blank])), rel=0.05)
        assert not image.mask.any()  # fitscut writes NaN for nothing flagged
    else:
        assert image.mjd_mid == pytest.approx(exposure.mjd_mid, abs=60 / 86400)
        unseen = ~np.isfinite(image.data)
        assert unseen.any() == bool((image.mask & bits("NO_DATA")).any())
        assert (image.mask[unseen] & bits("NO_DATA")).all()


@pytest.mark.service
def test_pixels_are_those_of_the_simulated_sky(standin: StandIn, tmp_path: Path):
    """The brightest unsaturated star shines where and as bright as the catalogue has it."""
    from astrid_assets.archives.simulated.sky import objects_around, star_positions

    stars, galaxies = objects_around(1, RA, DEC, 0.05)
    ra, dec = star_positions(stars, 56100.0)
    near = np.hypot((ra - RA) * math.cos(math.radians(DEC)), dec - DEC) < 150 / 3600
    alone = np.array([
        np.sum(np.hypot((ra - a) * 0.58, dec - d) < 15 / 3600) == 1
        and not np.any(np.hypot((galaxies.ra - a) * 0.58, galaxies.dec - d) < 15 / 3600)
        for a, d in zip(ra, dec, strict=True)
    ])  # fmt: skip
    chosen = np.flatnonzero(near & alone & (stars.mag_r > 15) & (stars.mag_r < 20))
    star = chosen[np.argmin(stars.mag_r[chosen])]
    archive, sky_field = opened(standin, tmp_path / "s"), field(bands=("r",), arcsec=320.0)
    square = ps1._Cutout(RA, DEC, 1280).corners()
    exposure = max(archive.search(sky_field), key=lambda row: coverage(square, row.footprint))
    image = read_image(archive.download(exposure, tmp_path / "f").files["image"])
    x, y = (float(v) for v in image.wcs.all_world2pix(ra[star], dec[star], 0))
    yy, xx = np.indices(image.shape)
    aperture = np.hypot(xx - x, yy - y) < 16
    flux = image.data[aperture].sum()
    magnitude = image.zeropoint.magnitude - 2.5 * math.log10(flux)
    assert magnitude == pytest.approx(stars.mag_r[star], abs=0.05)
    core = np.hypot(xx - x, yy - y) < 8
    light = image.data[core] / image.data[core].sum()
    assert np.sum(xx[core] * light) == pytest.approx(x, abs=0.2)
    assert np.sum(yy[core] * light) == pytest.approx(y, abs=0.2)


@pytest.mark.service
def test_warps_show_the_sky_as_it_was(standin: StandIn, tmp_path: Path):
    """A variable star at its faintest and brightest epochs; the same request gives the same bytes."""
    from astrid_assets.archives.simulated.changing import variability
    from astrid_assets.archives.simulated.sky import VARIABLE_KINDS, objects_around

    stars, _ = objects_around(1, RA, DEC, 0.3)
    mean = stars.mag_r + stars.colour
    pulsating = np.isin(stars.kind, [VARIABLE_KINDS.index(kind) for kind in ("rrab", "longperiod")])
    star = np.argmax(np.where(pulsating & (mean > 15.0) & (mean < 18.5), stars.amplitude, 0.0))
    sky_field = field(ra=float(stars.ra[star]), dec=float(stars.dec[star]), product="warp", bands=("g",))
    archive = opened(standin, tmp_path / "s")
    magnitudes = {}
    for row in archive.search(sky_field):
        mjd = Time(row.mjd_start, format="mjd", scale="utc").tai.mjd
        magnitudes[row] = float(mean[star] + variability(stars, mjd, "g")[star])
    found = {}
    by_brightness = sorted(magnitudes, key=magnitudes.__getitem__)
    for row in (*by_brightness[:2], *by_brightness[-2:]):
        image = read_image(archive.download(row, tmp_path / row.exposure_id).files["image"])
        yy, xx = np.indices(image.shape)
        x, y = image.wcs.all_world2pix(sky_field.ra, sky_field.dec, 0)
        aperture = np.hypot(xx - x, yy - y) < 12
        if not image.mask[aperture].any():  # else a gap of the camera runs through it
            found[row] = image.zeropoint.magnitude - 2.5 * math.log10(image.data[aperture].sum())
    assert found == {row: pytest.approx(magnitudes[row], abs=0.05) for row in found}
    assert max(found.values()) - min(found.values()) > 0.3
    path = tmp_path / row.exposure_id / f"{row.exposure_id}.fits"
    again = archive.download(row, tmp_path / "again").files["image"]
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.service
def test_a_clipped_cutout_is_refused_and_leaves_no_file(tmp_path: Path):
    with StandIn(handlers(), [Fault("clipped")]) as server:
        archive = opened(server, tmp_path / "store")
        exposure = archive.search(field(bands=("r",)))[0]
        with pytest.raises(BadAnswerError, match="is cut off: 96 x 160 of 160 pixels"):
            archive.download(exposure, tmp_path / "files")
        assert list((tmp_path / "files").iterdir()) == []


def test_a_cutout_that_ends_with_its_sky_cell_is_good(tmp_path: Path):
    """The same file is refused where more was to be expected, and taken where the sky cell ends there."""
    size, seen = 200, 120
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [30.0, 10.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [100.5, 100.5], [-0.25 / 3600, 0.25 / 3600]
    path = tmp_path / "edge.fits"
    fits.PrimaryHDU(np.ones((size, seen), "f4"), wcs.to_header()).writeto(path)
    cutout = ps1._Cutout(30.0, 10.0, size)
    half = 3120 * 0.25 / 3600  # the cell's western edge lies 20 pixels west of the centre
    middle_ra, middle_dec = ps1._sky(half - 20 * 0.25 / 3600, 0.0, (30.0, 10.0))
    name = STACK.rsplit("/", 1)[1]
    cell = ps1.ImageFile("1405.053", middle_ra, middle_dec, "g", 0.0, "stack", STACK, name)
    assert ps1._misplaced(path, cutout, cutout.inside(cell)) is None
    assert "is cut off" in str(ps1._misplaced(path, cutout, cutout.corners()))
    assert "is cut off" in str(ps1._misplaced(path, cutout, ()))


@pytest.mark.service
def test_a_cutout_without_a_value_is_no_coverage(standin: StandIn, tmp_path: Path):
    """Beside its sky cell a file has nothing; fitscut fills with NaN."""
    archive = opened(standin, tmp_path / "store")
    exposure = archive.search(field(bands=("r",)))[0]
    cutout, names = ps1._located(exposure.url)
    away = ps1._Cutout(cutout.ra, cutout.dec + 0.4, cutout.size)
    moved = Exposure(**{**vars(exposure), "url": ps1._locator(away, names)})
    with pytest.raises(NoCoverageError, match="no value"):
        archive.download(moved, tmp_path / "files")
    assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.service
@pytest.mark.parametrize("mode", ["html", "half", "truncated", "unavailable", "gzip", "no_overlap"])
def test_faults_leave_no_file_or_a_whole_one(mode: str, tmp_path: Path):
    with StandIn(handlers(), [Fault(mode, first_n=2, only="fitscut")]) as server:
        archive = opened(server, tmp_path / "store")
        exposure = archive.search(field(bands=("r",)))[0]
        try:
            archive.download(exposure, tmp_path / "files")
        except BadAnswerError:
            assert mode == "no_overlap"  # said once, and final
            assert list((tmp_path / "files").iterdir()) == []
        else:
            assert all(read_image(p, companions=False) for p in (tmp_path / "files").glob("*unconv.fits"))


@pytest.mark.service
def test_a_picture_is_a_jpeg_and_no_fits(standin: StandIn, tmp_path: Path):
    from PIL import Image

    files = {row.band: ps1._located(row.url)[1]["image"] for row in opened(standin, tmp_path).search(field())}
    transport = Transport.open({"ps1": {"base_url": standin.base_url("ps1")}}, tmp_path)
    request = ps1.display_request([files[band] for band in "irg"], RA, DEC, size=120)
    with Image.open(io.BytesIO(transport.ask(request).content)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (120, 120))


def test_whole_files_are_linearised_where_their_header_says_so(tmp_path: Path):
    """A pixel v stands for BOFFSET + 2 BSOFTEN sinh(v / a), a = 2.5 / ln 10 (Waters et al. 2020)."""
    flux = np.array([[100.0, 1.0], [10.0, 0.0]])
    softening, offset = 0.5, -0.25
    pixels = 2.5 / math.log(10) * np.arcsinh((flux - offset) / (2 * softening))
    assert pixels.max() / pixels[0, 1] < 6  # 100 : 1 looks like 6 : 1
    header = fits.Header({"BSOFTEN": softening, "BOFFSET": offset, "PSCAMERA": "GPC1"})
    path = tmp_path / "rings.v3.skycell.1405.053.stk.g.unconv.fits"
    fits.PrimaryHDU(pixels.astype(">f4"), header).writeto(path)
    np.testing.assert_allclose(read_image(path).data, flux, atol=1e-4)
    plain = tmp_path / "plain"
    plain.mkdir()
    shutil.copy(path, plain / path.name)
    for card in ("BSOFTEN", "BOFFSET"):
        fits.delval(plain / path.name, card)
    np.testing.assert_allclose(read_image(plain / path.name).data, pixels, rtol=1e-6)
