"""Cutouts of other surveys: whether what came is what was asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrid_assets.archives.cutouts import describe_cutout
from astrid_assets.errors import BadAnswerError


def cutout(image: np.ndarray, *, shift: float = 0.0) -> bytes:
    """Return a FITS file of 0.1 degrees about (150, 2), its centre displaced by some pixels."""
    size = image.shape[0]
    sky = WCS(naxis=2)
    sky.wcs.ctype, sky.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    sky.wcs.crpix, sky.wcs.cdelt = [(size + 1) / 2 + shift] * 2, [-0.1 / size, 0.1 / size]
    stream = io.BytesIO()
    fits.PrimaryHDU(image.astype(">f4"), sky.to_header()).writeto(stream)
    return stream.getvalue()


def test_a_cutout_as_asked():
    found = describe_cutout(cutout(np.ones((240, 240))), ra=150.0, dec=2.0, width=0.1)
    assert (found["nx"], found["ny"], found["coverage"]) == (240, 240, 1.0)
    assert found["centre_offset"] == pytest.approx(0.0, abs=1e-9)
    assert found["width_ratio"] == pytest.approx(1.0)


def test_what_is_missing_beside_and_too_wide_is_measured():
    image = np.ones((100, 100))
    image[:20], image[20:30] = 0.0, np.nan
    found = describe_cutout(cutout(image, shift=3.0), ra=150.0, dec=2.0, width=0.05)
    assert found["coverage"] == pytest.approx(0.7)
    assert found["centre_offset"] == pytest.approx(3.0 * np.sqrt(2))
    assert found["width_ratio"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no image</html>",
        cutout(np.ones((100, 100)))[:20000],
        cutout(np.ones((100, 100))).replace(b"RA---TAN", b"XPIXEL  ").replace(b"DEC--TAN", b"YPIXEL  "),
    ],
)
def test_what_is_no_image_is_refused_with_one_line(content: bytes):
    with pytest.raises(BadAnswerError) as error:
        describe_cutout(content, ra=150.0, dec=2.0, width=0.1)
    assert "\n" not in str(error.value)


@pytest.mark.real_data
def test_real_cutouts(real_data: Path):
    """Pieces of GALEX and WISE about SN 2010H."""
    for name, coverage in (("GALEX_NUV", 0.38), ("WISE_W1", 1.0)):
        content = (real_data / "surveys/blast_2010H" / f"{name}.fits").read_bytes()
        found = describe_cutout(content, ra=121.6015, dec=1.0360, width=0.1)
        assert found["coverage"] == pytest.approx(coverage, abs=0.01), name
        assert found["width_ratio"] == pytest.approx(1.0, abs=0.01), name
        assert found["centre_offset"] < 2, name
