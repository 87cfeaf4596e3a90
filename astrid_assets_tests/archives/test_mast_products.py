"""Which files of an observation are taken, and which band and detector a row has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astrid_assets.archives.mast.missions import MISSIONS, band_of, detector_type_of, missions_of
from astrid_assets.archives.mast.products import ALLOWED, choose, parse_products, product_of
from astrid_assets.archives.standin.mast_rows import observations, place_at, products
from astrid_assets.fields import parse_fields
from astrid_assets.surveys import load_profile

PLACE = place_at(150.1, 2.2)


def listed(collection, band=None):
    """Return the first row of a mission and the files that are listed for it."""
    row = next(
        r for r in observations(PLACE) if r["obs_collection"] == collection and band in (None, r["filters"])
    )
    return row, [product_of(file) for file in products(row["obsid"])]


def chosen(collection, survey, band, files=None):
    """Return the names of what is taken, by role."""
    row, found = listed(collection)
    files = found if files is None else files
    taken = choose(files, mission=collection, obs_id=row["obs_id"], profile=load_profile(survey), band=band)
    return {role: product.filename for role, product in taken.items()}


def test_of_hundreds_of_files_of_a_mosaic_one_is_taken():
    """No catalogue, preview, segmentation, raw file or member, though each is listed a hundred times."""
    row, files = listed("JWST")
    assert len(files) > 300
    assert chosen("JWST", "jwst-nircam", "F200W") == {"image": f"{row['obs_id']}_i2d.fits"}
    without = [f for f in files if not f.filename.endswith("_i2d.fits")]
    assert chosen("JWST", "jwst-nircam", "F200W", without) == {}


def test_a_row_of_one_exposure_gives_its_calibrated_image():
    """The member of a mosaic, where it is the observation itself."""
    _, files = listed("JWST")
    member = next(f for f in files if f.subgroup == "CAL" and f.product_type == "SCIENCE")
    taken = choose(
        files, mission="JWST", obs_id=member.obs_id.upper(), profile=load_profile("jwst-nircam"), band="F200W"
    )
    assert taken == {"image": member}


@pytest.mark.parametrize("missing", range(4))
def test_the_best_kind_of_hst_image(missing):
    """Drizzled before calibrated, corrected for charge transfer before not."""
    row, files = listed("HST")
    kinds = [allowed.subgroup for allowed in ALLOWED["HST"]]
    left = [f for f in files if f.subgroup not in kinds[:missing]]
    assert chosen("HST", "hst", "F606W", left) == {"image": f"{row['obs_id']}_{kinds[missing].lower()}.fits"}


@pytest.mark.parametrize(("band", "code"), [("NUV", "nd"), ("FUV", "fd")])
def test_galex_lists_both_bands(band, code):
    """The intensity map of the row's band and its response; no counts, no catalogues."""
    row, _ = listed("GALEX")
    stem = f"AIS_{row['obs_id']}-{code}"
    assert chosen("GALEX", "galex", band) == {
        "image": f"{stem}-int.fits.gz",
        "coverage": f"{stem}-rrhr.fits.gz",
    }


@pytest.mark.parametrize(("band", "code"), [("uvw1", "uw1"), ("u", "uuu")])
def test_swift_lists_all_bands(band, code):
    """Sky image and exposure map of the row's band; no raw image."""
    row, _ = listed("SWIFT")
    stem = f"sw{row['obs_id']}{code}"
    assert chosen("SWIFT", "swift-uvot", band) == {
        "image": f"{stem}_sk.img.gz",
        "coverage": f"{stem}_ex.img.gz",
    }


def test_previews_and_catalogues_are_never_taken():
    """Not even when they claim the subgroup of an image."""
    _, files = listed("HST")
    for kind in ("PREVIEW", "THUMBNAIL", "CATALOG", "INFO"):
        assert chosen("HST", "hst", "F606W", [replace(f, product_type=kind) for f in files]) == {}


@pytest.mark.real_data
def test_the_recorded_products(real_data):
    """Of 22 files of a WFPC2 visit, the drizzled image."""
    files = parse_products((real_data / "http/mast/products.json").read_bytes())
    taken = choose(files, mission="HST", obs_id="U9O40504M", profile=load_profile("hst"), band="F606W")
    assert [p.uri for p in taken.values()] == ["mast:HST/product/u9o40504m_drz.fits"]


@pytest.mark.parametrize("filters", ["F200W", "F200W;CLEAR", "CLEAR;F200W", "F200W-CLEAR", "f200w"])
def test_bands_of_jwst(filters):
    """The wheel without a filter is no band."""
    assert band_of(filters, load_profile("jwst-nircam")) == "F200W"


@pytest.mark.parametrize(
    ("survey", "filters", "band"),
    [
        ("hst", "F606W;CLEAR2L", "F606W"),
        ("hst", "CLEAR1S;F814W", "F814W"),
        ("hst", "DETECTION", None),
        ("hst", "F606W;F814W", None),
        ("hst", "MIRVIS", None),
        ("hst", None, None),
        ("hst", "CLEAR1L;CLEAR2L", None),
        ("jwst-nircam", "F150W2;F162M", "F162M"),
        ("jwst-nircam", "F444W;F470N", None),
        ("jwst-nircam", "F150W2", None),
        ("galex", "NUV", "NUV"),
        ("swift-uvot", "UVW1", "uvw1"),
        ("swift-uvot", "UGRISM", None),
        ("tess", "TESS", "TESS"),
    ],
)
def test_bands(survey, filters, band):
    """Canonical names by the profiles; None where it is no single filter."""
    assert band_of(filters, load_profile(survey)) == band


def test_detector_types_are_those_of_the_headers():
    """As `images.headers.detector_type` makes them of the files."""
    nircam, hst = load_profile("jwst-nircam"), load_profile("hst")
    assert detector_type_of({"instrument_name": "NIRCAM/IMAGE"}, nircam, "F200W") == "nircam short"
    assert detector_type_of({"instrument_name": "NIRCAM/IMAGE"}, nircam, "F277W") == "nircam long"
    assert detector_type_of({"instrument_name": "WFC3/UVIS"}, hst, "F275W") == "hst wfc3 uvis"
    assert detector_type_of({}, load_profile("galex"), "NUV") == "galex"


def test_missions_by_their_years():
    """Only missions that observed in both windows are asked for; Swift began in between."""
    text = """
old: {ra: 1, dec: 2, radius: 0.1, archives: [mast], science_window: {start: 2005-01-01, end: 2006-01-01},
      reference_window: {start: 2004-01-01, end: 2004-12-01}}
new: {ra: 1, dec: 2, radius: 0.1, archives: [mast], mast: {missions: [GALEX, JWST]},
      science_window: {start: 2024-01-01}, reference_window: {start: 2022-01-01, end: 2023-01-01}}
open: {ra: 1, dec: 2, radius: 0.1, archives: [mast]}
"""
    fields = parse_fields(text)
    assert missions_of(fields["old"]) == ("HST", "GALEX")
    assert missions_of(fields["new"]) == ("JWST",)
    assert set(missions_of(fields["open"])) == set(MISSIONS)
