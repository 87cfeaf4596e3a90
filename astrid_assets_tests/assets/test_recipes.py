"""What is refused before it enters the graph."""

import numpy as np
import pytest

from astrid_assets.assets.recipes.images import _require_complete
from astrid_assets.errors import ImageError
from astrid_assets.images import MaskedImage, ZeroPoint
from astrid_assets_tests.science.sky import tan_wcs

WHOLE = MaskedImage(
    np.ones((8, 8)), survey="ztf", wcs=tan_wcs((8, 8)), mjd_mid=60000.0, zeropoint=ZeroPoint(26.3)
)


@pytest.mark.parametrize(
    ("name", "words"), [("wcs", "world coordinates"), ("mjd_mid", "time of obs"), ("zeropoint", "zero point")]
)
def test_a_file_without_what_its_survey_always_has_is_refused(name, words):
    with pytest.raises(ImageError, match=f"a_sciimg.fits: the header has no usable {words}"):
        _require_complete(WHOLE.replace(**{name: None}), "a_sciimg.fits")


def test_a_whole_file_and_a_survey_without_rules_pass():
    _require_complete(WHOLE, "a_sciimg.fits")
    _require_complete(MaskedImage(np.ones((8, 8))), "mine.fits")
