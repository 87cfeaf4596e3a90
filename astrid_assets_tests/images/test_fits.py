"""Broken files are refused with one clear line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrid_assets.errors import ImageError
from astrid_assets.images import MaskedImage, Psf, read_image, write_image
from astrid_assets.images.fits import verify_fits


def some_image() -> MaskedImage:
    data = np.random.default_rng(1).normal(100, 3, (40, 51))
    return MaskedImage(data, variance=np.full(data.shape, 9.0), psf=Psf(np.ones((9, 11)), data.shape))


@pytest.mark.parametrize("share", [0.0, 1e-3, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("own", [True, False])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, share: float, own: bool) -> None:
    whole, cut = tmp_path / "whole.fits", tmp_path / "cut.fits"
    if own:
        write_image(whole, some_image())
    else:
        pixels = np.ones((300, 300), np.float32)
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]).writeto(whole)
    verify_fits(whole)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    for function in (verify_fits, read_image):
        with pytest.raises(ImageError, match=r"^cut\.fits: [^\n]+$"):
            function(cut)


def test_a_cut_compressed_file_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", some_image())
    packed = gzip.compress((tmp_path / "a.fits").read_bytes())
    (tmp_path / "b.fits.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ImageError, match=r"^b\.fits\.gz: "):
        read_image(tmp_path / "b.fits.gz")
    (tmp_path / "c.fits.gz").write_bytes(packed)
    np.testing.assert_array_equal(read_image(tmp_path / "c.fits.gz").data, some_image().data)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    write_image(tmp_path / "a.fits", some_image())
    content = bytearray((tmp_path / "a.fits").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(ImageError, match=r"^a\.fits: the checksum of extension \d does not match$"):
        verify_fits(tmp_path / "a.fits")


def test_what_is_no_fits_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_text("<html>503</html>" * 500)
    with pytest.raises(ImageError, match=r"^a\.fits: is not a FITS file$"):
        read_image(tmp_path / "a.fits")
    with pytest.raises(ImageError, match=r"^gone\.fits: does not exist$"):
        read_image(tmp_path / "gone.fits")
