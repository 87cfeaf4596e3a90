"""The preview of cutouts: small, and with every triplet that fits."""

import io

import numpy as np
import pytest
from PIL import Image

from astrid_assets.images.triplets import Triplets
from astrid_assets.reports.figures import BYTES_MAX
from astrid_assets.reports.gallery import gallery_png


def triplets(n, size=65):
    rng = np.random.default_rng(1)
    stamps = rng.normal(size=(n, 3, size, size)).astype(np.float32)
    stamps[:, :, size // 2 + 1, size // 2] += 50
    middle = size // 2
    stamps[:, 1, middle - 10 : middle] = np.nan
    zeros = np.zeros(n, np.int32)
    return Triplets(stamps, np.isnan(stamps).astype(np.uint8), stamps[:, 0], zeros, zeros)


@pytest.mark.parametrize(("n", "size"), [(1, 65), (3, 33), (8, 65), (8, 129)])
def test_a_gallery_is_small_and_shows_what_is_there(n, size):
    png = gallery_png(triplets(n, size), [f"S/N {i}" for i in range(n)], title="exposure")
    assert len(png) <= BYTES_MAX
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    rows = np.flatnonzero((picture == (70, 85, 150)).all(axis=2).any(axis=1))
    assert len(rows) % 10 == 0
    assert len(rows) > 0
    assert (picture == 255).all(axis=2).any()
