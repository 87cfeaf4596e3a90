"""Quality metrics and pictures of real images, against what is known about them."""

import pytest

from astrid_assets.checks.limits import judge
from astrid_assets.images import read_image
from astrid_assets.reports.figures import BYTES_MAX, preview_png
from astrid_assets.science.quality import image_metrics, reference_metrics

pytestmark = pytest.mark.real_data

JWST = "pairs/jwst_nircam_a2744/jw0{}-f200w_i2d_stamp.fits"


def test_jwst_stamp_is_what_the_telescope_delivers(real_data):
    """NIRCam F200W: FWHM 0.066 arcsec (JWST user documentation), drizzled to 0.0308 arcsec pixels."""
    image = read_image(real_data / JWST.format("2561001002-02561-o001_t003_nircam_clear"))
    metrics = image_metrics(image)
    assert metrics["seeing"] == pytest.approx(0.066, abs=0.004)
    assert metrics["pixel_scale"] == pytest.approx(0.0308, abs=2e-4)
    assert metrics["n_infnan"] == 0
    assert metrics["wcs_round_trip"] < 1e-6
    assert set(judge(metrics, "science_images", space=True).values()) <= {"green", "none"}
    assert len(preview_png(image=image)) <= BYTES_MAX


def test_jwst_pair_covers_itself(real_data):
    names = ("2561001002-02561-o001_t003_nircam_clear", "1324001001-01324-o001_t001_nircam_clear")
    science, reference = (read_image(real_data / JWST.format(name)) for name in names)
    metrics = reference_metrics(reference, science)
    assert metrics["template_coverage"] == 1.0
    assert metrics["seeing_ratio"] == pytest.approx(1.0, abs=0.05)


def test_sdss_and_des_do_not_overlap(real_data):
    folder = real_data / "pairs/hostphot_sn2006bh"
    science, reference = (read_image(folder / f"{name}_r.fits") for name in ("DES", "SDSS"))
    assert reference_metrics(reference, science)["template_coverage"] == 0.0


def test_decam_exposure_is_usable(real_data):
    image = read_image(real_data / "pairs/decam_tc4_r/c4d_180314_055922_ooi_r_ls9.S1.fits")
    metrics = image_metrics(image)
    assert metrics["pixel_scale"] == pytest.approx(0.2623, rel=2e-3)
    assert metrics["exptime"] == 59.0
    assert "red" not in judge(metrics, "science_images").values()
