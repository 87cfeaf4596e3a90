"""Profiles: complete, consistent, and guessed from headers."""

from __future__ import annotations

import pytest

from astrid_assets.errors import ConfigurationError
from astrid_assets.images.masks import MASK_PLANES
from astrid_assets.surveys import guess_profile, load_profile, profile_names

WANTED = {"ztf", "ps1", "decam", "jwst-nircam", "hst", "tess", "galex", "swift-uvot"}
WANTED |= {"sdss", "2mass", "wise", "dss2", "generic"}
ROLES = {"mask", "weight", "variance", "noise", "psf", "coverage"}


def test_all_surveys_are_there() -> None:
    assert set(profile_names()) >= WANTED
    assert profile_names()[-1] == "generic"


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_sound(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.bands or profile.open_bands
    for table in (profile.mask.bits, profile.mask.codes):
        assert set(table.values()) <= set(MASK_PLANES)
    assert {c.role for c in profile.companions} <= ROLES
    assert set(profile.extensions) <= ROLES | {"image"}
    for low, high in profile.limits.values():
        assert 0 < low < high
    spellings = [s for band in profile.bands.values() for s in (band.name, *band.aliases)]
    assert len(spellings) == len(set(spellings)), "an alias names two bands"
    if name != "generic":
        assert profile.guess_headers
        assert "pixel_scale" in profile.limits


@pytest.mark.parametrize(
    ("survey", "value", "band"),
    [
        ("ztf", "ZTF_g", "g"),
        ("ztf", "zr", "r"),
        ("ztf", "ZTF i", "i"),
        ("ztf", "grizzly", None),
        ("decam", "r DECam SDSS c0002 6415.0 1480.0", "r"),
        ("decam", "VR DECam c0007 6300.0 2600.0", "VR"),
        ("decam", "Y DECam c0005 10095.0 1130.0", "Y"),
        ("ps1", "g.00000", "g"),
        ("ps1", "rings.v3.skycell.1329.005.stk.r.unconv.fits", None),  # "rings" contains g
        ("galex", 1, "NUV"),
        ("galex", "fd", "FUV"),
        ("swift-uvot", "UVW1", "uvw1"),
        ("swift-uvot", "uw1", "uvw1"),
        ("swift-uvot", "U", "u"),
        ("2mass", "k", "Ks"),
        ("wise", 4, "W4"),
        ("sdss", "SDSS-i", "i"),
        ("jwst-nircam", "F200W", "F200W"),
        ("hst", "CLEAR1L", None),
        ("generic", "Rc ", "Rc"),
        ("generic", "", None),
    ],
)
def test_filters_by_exact_spelling(survey: str, value: object, band: str | None) -> None:
    assert load_profile(survey).band(value) == band


@pytest.mark.parametrize(
    ("header", "filename", "survey"),
    [
        ({"INSTRUME": "ZTF/MOSAIC"}, "", "ztf"),
        ({}, "ztf_20200531250000_000700_zr_c04_o_q1_sciimg.fits", "ztf"),
        ({"INSTRUME": "DECam"}, "anything.fits", "decam"),
        ({"INSTRUME": "NIRCAM "}, "", "jwst-nircam"),
        ({"ORIGIN": "SDSS", "TELESCOP": "2.5m"}, "", "sdss"),
        ({"ORIGIN": "SDSS"}, "", "generic"),
        ({"TELESCOP": "SWIFT", "INSTRUME": "UVOTA"}, "", "swift-uvot"),
        ({"TELESCOP": "SWIFT", "INSTRUME": "XRT"}, "", "generic"),
        ({"MPSTYPE": "AIS", "GRELEASE": "ops-v7_0_3"}, "", "galex"),
        ({"SURVEY": "2MASS-J"}, "", "2mass"),
        ({"SURVEY": "DSS2 Red"}, "", "dss2"),
        ({}, "my_ztf_like_image.fits", "generic"),
    ],
)
def test_guessing(header: dict, filename: str, survey: str) -> None:
    assert guess_profile(header, filename).name == survey


def test_an_unknown_profile_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no survey profile 'zft'; there are 2mass, decam"):
        load_profile("zft")


def test_files_that_are_no_exposures() -> None:
    ztf, jwst = load_profile("ztf"), load_profile("jwst-nircam")
    assert ztf.is_image("ztf_x_sciimg.fits")
    assert not ztf.is_image("ztf_x_scimrefdiffimg.fits.fz")
    assert not jwst.is_image("jw_i2d_stamp.crossConvd.sfftdiff.DeCorrelated.SNR.fits")
    assert not jwst.is_image("jw_i2d_stamp.WebbPSF.fits")
    assert jwst.is_image("jw_i2d_stamp.fits")


def test_companion_names() -> None:
    decam = load_profile("decam").companion_names("c4d_170522_005829_ooi_r_ls9.fits.fz")
    assert ("weight", "c4d_170522_005829_oow_r_ls9.fits") in decam
    assert ("mask", "c4d_170522_005829_ood_r_ls9.fits") in decam
    assert ("psf", "x_sciimgdaopsfcent.fits") in load_profile("ztf").companion_names("x_sciimg.fits")
    assert ("noise", "x.noise.fits") in load_profile("generic").companion_names("x.fits")
