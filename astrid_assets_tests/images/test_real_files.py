"""Real files of many observatories: read right, or refused with one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astrid_assets.errors import ImageError
from astrid_assets.images import MaskedImage, read_image
from astrid_assets.images.celestial import pixel_solid_angle
from astrid_assets.images.masks import bits

pytestmark = pytest.mark.real_data

JWST = "pairs/jwst_nircam_a2744/jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp"
JWST_LATER = "pairs/jwst_nircam_a2744/jw02561001002-02561-o001_t003_nircam_clear-f200w_i2d_stamp"


def test_every_file_is_read_or_refused_with_one_line(real_data: Path) -> None:
    """Warnings are errors here: nothing a user cannot act on may reach the terminal."""
    read, refused = [], {}
    for folder in ("odd", "pairs", "surveys"):
        for path in sorted(p for p in (real_data / folder).rglob("*") if _is_fits_like(p)):
            try:
                image = read_image(path)
            except ImageError as error:
                refused[path.name] = str(error)
            else:
                _check_types(image)
                read.append(path.name)
    for name, message in refused.items():
        assert message.startswith(f"{name}: ")
        assert "\n" not in message
        assert len(message) < 200
    assert len(read) >= 66
    # in the pairs and surveys only the noise maps (planes, not images) are refused
    assert sorted(n for n in refused if n.startswith(("jw", "c4d"))) == [
        "jw01324001001-01324-o001_t001_nircam_clear-f200w_i2d_stamp.noise.fits",
        "jw02561001002-02561-o001_t003_nircam_clear-f200w_i2d_stamp.noise.fits",
    ]


def _is_fits_like(path: Path) -> bool:
    return any(part in {".fits", ".fit", ".fz", ".hdr", ".Z"} for part in path.suffixes)


def _check_types(image: MaskedImage) -> None:
    assert image.data.dtype == np.float32
    assert image.data.dtype.isnative
    assert np.isfinite(image.data).any()
    assert image.wcs is None or (image.wcs.has_celestial and image.wcs.wcs.radesys == "ICRS")
    if image.variance is not None:
        assert (image.variance[~image.bad] > 0).all()


def test_pixels_are_those_of_the_file(real_data: Path) -> None:
    for name in (
        "pairs/decam_tc4_r/c4d_180128_083845_ooi_r_ls9.N3.fits",
        f"{JWST}.fits",
        "odd/galsim_wcs/tpv.fits",
    ):
        with fits.open(real_data / name) as hdus:
            data = hdus[-1].data
        np.testing.assert_array_equal(read_image(real_data / name).data, data.astype(np.float32))


def test_jwst(real_data: Path) -> None:
    image = read_image(real_data / f"{JWST}.fits")
    assert (image.survey, image.band, image.unit) == ("jwst-nircam", "F200W", u.MJy / u.sr)
    # both stamps carry the same wrong MJD-AVG of 59894
    assert image.mjd_mid == pytest.approx(59759.41, abs=0.005)
    assert image.mjd_start < image.mjd_mid < image.mjd_end
    assert image.origin["warnings"] == [
        "time by MJD-BEG/MJD-AVG/MJD-END contradicts the others and was dropped"
    ]
    later = read_image(real_data / f"{JWST_LATER}.fits")
    assert later.mjd_mid == pytest.approx(59885.58, abs=0.005)
    assert image.zeropoint.magnitude == pytest.approx(31.4 - 2.5 * np.log10(22.3), abs=1e-3)
    noise = fits.getdata(real_data / f"{JWST}.noise.fits")
    np.testing.assert_allclose(np.sqrt(image.variance), noise, rtol=1e-5)
    # one pixel of the later noise map is negative
    assert np.count_nonzero(later.mask == bits("BAD")) == 1
    assert image.pixel_scale == pytest.approx(0.03078, abs=1e-4)


def test_the_psf_of_jwst_has_the_pixels_of_the_image(real_data: Path) -> None:
    """FWHM 2.13 pixels is 0.066 arcsec, the width of F200W: the 205 pixel stamp is not oversampled."""
    psf = read_image(real_data / f"{JWST}.fits").psf
    assert psf.shape == (205, 205)
    assert psf.fwhm * 0.0308 == pytest.approx(0.066, abs=0.003)
    assert psf.at(450, 450).sum() == pytest.approx(1)


def test_decam(real_data: Path) -> None:
    folder = real_data / "pairs/decam_tc4_r"
    image = read_image(folder / "c4d_170522_005829_ooi_r_ls9.N2.fits")
    assert (image.survey, image.band, image.detector, image.exptime) == ("decam", "r", "N2", 125.0)
    assert image.origin["companions"].keys() == {"mask", "weight"}
    assert image.zeropoint.magnitude == 30.208
    assert image.gain == pytest.approx(3.61, abs=0.01)
    # code 5, cosmic ray, and weight 0 at the same 71 pixels
    assert np.count_nonzero(image.mask & bits("COSMIC_RAY")) == 71
    assert np.count_nonzero(image.bad) == 71
    # gain and weights agree: photons make the noise
    sky = np.median(image.data)
    assert sky / np.median(image.variance) == pytest.approx(image.gain, rel=0.1)
    second = read_image(folder / "c4d_180128_083845_ooi_r_ls9.N3.fits")
    assert second.zeropoint is None
    assert second.mjd_start == pytest.approx(58146.36024508, abs=1e-8)
    assert np.count_nonzero(second.bad) == 0


def test_decam_nights_show_the_same_sky(real_data: Path) -> None:
    folder = real_data / "pairs/decam_tc4_r"
    centres = []
    for name in ("c4d_170522_005829_ooi_r_ls9.N2.fits", "c4d_180128_083845_ooi_r_ls9.N3.fits"):
        image = read_image(folder / name)
        centres.append(image.wcs.all_pix2world(125, 125, 0))
    assert np.hypot(*np.subtract(*centres)) * 3600 < 5


def test_images_without_coordinates_get_none(real_data: Path) -> None:
    for name in (
        "pairs/properimage_eso085/aligned_eso085-030-004.fit",
        "pairs/saao_kb13475/AKB13475I0001.fits",
    ):
        image = read_image(real_data / name)
        assert image.wcs is None
        assert image.pixel_scale is None
    eso = read_image(real_data / "pairs/properimage_eso085/aligned_eso085-030-004.fit", gain=1.4)
    assert (eso.gain, eso.band, eso.saturation) == (1.4, "Clear", 65535.0)
    assert eso.mjd_start == pytest.approx(57383.26833, abs=1e-5)
    assert (eso.data[(eso.mask & bits("SATURATED")) > 0] == 65535).all()
    saao = read_image(real_data / "pairs/saao_kb13475/AKB13475I0001.fits")
    assert (saao.gain, saao.read_noise, saao.airmass) == (1.9, 5.0, 1.023)


def test_cutouts_of_three_surveys(real_data: Path) -> None:
    folder = real_data / "pairs/hostphot_sn2006bh"
    des, ps1, sdss = (read_image(folder / f"{name}_g.fits") for name in ("DES", "PS1", "SDSS"))
    assert (des.band, ps1.band, sdss.band) == ("g", "g", "g")
    assert (des.zeropoint.magnitude, sdss.zeropoint.magnitude) == (30.0, 22.5)
    assert ps1.zeropoint.magnitude == pytest.approx(25 + 2.5 * np.log10(860))
    assert des.variance is not None
    # 20 inputs of MJD 55479 to 56632; times in TAI, 35 s ahead of UTC in 2012
    assert (ps1.n_exposures, ps1.mjd_start, ps1.mjd_end) == (20, 55479.0, 56633.0)
    assert (56102.1945901679 - ps1.mjd_mid) * 86400 == pytest.approx(34, abs=1.1)
    # old PC001001 matrix: east to the left, as in the other two
    assert ps1.wcs.all_pix2world(239, 0, 0)[0] < ps1.wcs.all_pix2world(0, 0, 0)[0]


def test_des_and_ps1_show_the_same_sources(real_data: Path) -> None:
    """Two pipelines' coordinates (CD, and FK5 with the old PC matrix) put the host at one place."""
    folder = real_data / "pairs/hostphot_sn2006bh"
    found = []
    for name in ("DES_r", "PS1_r"):
        image = read_image(folder / f"{name}.fits")
        data = np.nan_to_num(image.data - np.nanmedian(image.data))
        y, x = np.unravel_index(data[60:180, 60:180].argmax(), (120, 120))
        found.append(image.wcs.all_pix2world(x + 60, y + 60, 0))
    assert np.hypot(*np.subtract(*found)) * 3600 < 1.0


def test_vega_surveys_in_ab(real_data: Path) -> None:
    folder = real_data / "surveys/blast_2010H"
    found = {p.stem: read_image(p) for p in sorted(folder.glob("*.fits"))}
    assert {k: v.band for k, v in found.items()} == {"2MASS_J": "J", "GALEX_NUV": "NUV", "WISE_W1": "W1"}
    zero = {k: round(v.zeropoint.magnitude, 3) for k, v in found.items()}
    assert zero == {"2MASS_J": 21.716, "GALEX_NUV": 20.08, "WISE_W1": 23.199}
    assert found["2MASS_J"].mjd_mid == pytest.approx(51570.18, abs=0.01)
    assert found["WISE_W1"].mjd_end - found["WISE_W1"].mjd_start > 190


def test_packed_files(real_data: Path) -> None:
    image = read_image(real_data / "pairs/lco_banzai_single/banzai_test_frame.fits.fz")
    assert (image.shape, image.band, image.gain) == ((1020, 1523), "w", 1.0)
    assert np.sqrt(pixel_solid_angle(image.wcs)) * 206264.8 == pytest.approx(1.16, abs=0.01)
    large = read_image(real_data / "pairs/sdss_sn2015bn_large/SN2015bn_SDSS_r.fits.fz")
    assert (large.shape, large.survey, large.band, large.mjd_mid) == ((2423, 2423), "sdss", "r", None)
