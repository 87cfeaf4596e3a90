"""Pictures: small, of the right size, the right way up, with marks where the candidates are."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from astrid_assets.images.image import MaskedImage
from astrid_assets.images.masks import bits
from astrid_assets.reports.figures import BYTES_MAX, preview_png
from astrid_assets.reports.pair_figure import difference_figure
from astrid_assets_tests.science.twins import peaks, twins

GREEN, ORANGE = (60, 210, 90), (255, 140, 30)


@pytest.fixture(scope="module")
def pair_and_difference():
    return twins(n=512, transients=((100.0, 400.0, 5e4),))


def decoded(png):
    assert len(png) <= BYTES_MAX
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has(picture, colour):
    return np.argwhere((picture == colour).all(axis=2))


def one(x, y, artifact=""):
    return pa.table({"x": [x], "y": [y], "artifact": [artifact]})


def test_row_zero_is_at_the_bottom():
    data = np.random.default_rng(1).normal(0, 1, (200, 200)).astype(np.float32)
    data[20:40, 150:170] += 100.0
    picture = decoded(preview_png(image=MaskedImage(data)))
    bright = np.argwhere(picture[40:-22, 6:206, 0] > 200)
    assert np.median(bright, axis=0) == pytest.approx([199 - 30, 160], abs=6)


def test_marks_lie_on_candidates(pair_and_difference):
    pair, difference = pair_and_difference
    kept = decoded(preview_png(pair=pair, difference=difference, table=one(100.0, 400.0)))
    marks = has(kept[40:-22, 6:176], GREEN)
    assert marks.mean(axis=0) == pytest.approx([(511 - 400) / 3, 100 / 3], abs=1.5)
    assert len(has(kept, ORANGE)) == 0
    flagged = decoded(preview_png(pair=pair, difference=difference, table=one(100.0, 400.0, "dipole")))
    assert len(has(flagged, ORANGE)) > 0
    assert len(has(flagged, GREEN)) == 0


def test_equal_images_overlay_without_colour():
    pair, _ = twins(n=256)
    same = decoded(preview_png(pair=pair.replace(reference=pair.science)))
    assert (same.max(axis=2) == same.min(axis=2)).all()
    other = decoded(preview_png(pair=pair))
    assert (other.max(axis=2) != other.min(axis=2)).any()


def test_masked_pixels_are_blue():
    mask = np.zeros((256, 256), np.int32)
    mask[:, 100:140] = bits("BAD")
    picture = decoded(preview_png(image=MaskedImage(np.ones((256, 256)), mask=mask)))
    blue = has(picture, (70, 85, 150))
    assert len(blue) == pytest.approx(40 * 256, rel=0.05)


def test_all_masked_image_is_drawn():
    decoded(preview_png(image=MaskedImage(np.full((64, 64), np.nan))))


def test_large_noisy_images_stay_small(pair_and_difference):
    rng = np.random.default_rng(3)
    image = MaskedImage(rng.normal(0, 1, (3000, 1000)))
    decoded(preview_png(image=image))
    pair, difference = pair_and_difference
    decoded(preview_png(pair=pair, difference=difference, table=peaks(difference)))


def test_text_keeps_its_size_where_the_pictures_must_shrink():
    rng = np.random.default_rng(4)
    noise = MaskedImage(rng.normal(0, 1, (2000, 2000)))
    large = decoded(preview_png(image=noise, width=600))
    small = decoded(preview_png(image=noise, width=100))
    assert large.shape[0] > small.shape[0]
    assert (large[:39, :140] == small[:39, :140]).all()


def test_a_preview_needs_something_to_show():
    with pytest.raises(ValueError, match="needs an image or a pair"):
        preview_png()


def test_figure_of_a_pair_is_a_png(pair_and_difference):
    pair, difference = pair_and_difference
    picture = Image.open(io.BytesIO(difference_figure(pair, difference, peaks(difference))))
    assert picture.format == "PNG"
    assert min(picture.size) >= 600
