"""Quality metrics against known faults (table B.5 of the field's practice) and analytic answers."""

import numpy as np
import pytest
from astropy.wcs import WCS

from astrid_assets.checks.limits import judge
from astrid_assets.images.image import MaskedImage, ZeroPoint
from astrid_assets.images.masks import bits
from astrid_assets.images.pairs import Registration
from astrid_assets.images.psf import Psf
from astrid_assets.science.quality import (
    candidate_metrics,
    difference_metrics,
    image_metrics,
    mask_fractions,
    normalization_metrics,
    reference_metrics,
    registration_metrics,
)
from astrid_assets_tests.science.twins import SKY, gaussian_stamp, peaks, twins


def measured(**fault):
    pair, difference = twins(**fault)
    metrics = difference_metrics(difference, pair)
    table = peaks(difference)
    candidates = candidate_metrics(table, difference.replace(metrics=metrics), pair)
    return metrics, candidates


@pytest.fixture(scope="module")
def perfect():
    return measured()


@pytest.fixture(scope="module")
def shifted():
    return measured(dx=0.2)


@pytest.fixture(scope="module")
def brightened():
    return measured(scale=1.1)


@pytest.fixture(scope="module")
def tilted():
    return measured(ramp=0.5)


def colours(metrics, candidates):
    return judge(metrics, "zogy_differences") | judge(candidates, "candidates")


def test_perfect_subtraction_is_exact(perfect):
    metrics, candidates = perfect
    assert metrics["residual_noise_ratio"] == pytest.approx(1.0, abs=0.03)
    assert metrics["scorr_std"] == pytest.approx(1.0, abs=0.02)
    assert metrics["scorr_std_trimmed"] == pytest.approx(1.0, abs=0.02)
    assert metrics["scorr_mad_std"] == pytest.approx(1.0, abs=0.02)
    assert metrics["scorr_median"] == pytest.approx(0.0, abs=0.03)
    assert metrics["variance_scale"] == pytest.approx(1.0, abs=0.03)
    assert metrics["noise_level"] == pytest.approx(np.sqrt(2.0 * SKY), rel=0.02)
    assert metrics["noise_whiteness"] < 0.02
    assert metrics["residual_footprint_excess"] < 0.05
    assert candidates["sky_source_std"] == pytest.approx(1.0, abs=0.1)
    assert set(colours(*perfect).values()) <= {"green", "none"}


def test_detection_threshold_is_that_of_optimal_photometry(perfect):
    """5 sigma of a Gaussian PSF on white noise: 5 sqrt(2 sky 4 pi s^2)."""
    expected = 5.0 * np.sqrt(2.0 * SKY * 4.0 * np.pi * 1.7**2)
    assert perfect[0]["detection_threshold"] == pytest.approx(expected, rel=0.02)
    assert perfect[0]["detection_threshold_mag"] == pytest.approx(27.0 - 2.5 * np.log10(expected), abs=0.02)


def test_figure_of_merit_stands_beside_the_threshold(perfect, tilted):
    """On noise alone its 5 sigma limit is that of photometry; what goes wrong makes it shallower."""
    metrics = perfect[0]
    assert metrics["merit_m_5sigma"] == pytest.approx(metrics["detection_threshold_mag"], abs=0.03)
    assert metrics["merit_threshold"] == pytest.approx(5.0, abs=0.4)
    assert tilted[0]["merit"] < metrics["merit"] - 0.3


def test_shift_shows_on_sources_with_both_signs(shifted):
    metrics, candidates = shifted
    assert 1.15 < metrics["residual_noise_ratio"] < 1.4
    assert metrics["scorr_mad_std"] < 1.05
    assert abs(candidates["sign_imbalance"]) < 3.0
    assert candidates["transient_fraction"] > 0.2
    verdict = colours(*shifted)
    assert verdict["residual_noise_ratio"] == "yellow"
    assert verdict["transient_fraction_low"] == "red"
    assert verdict["scorr_mad_std"] == verdict["sign_imbalance"] == "green"


def test_flux_error_shows_with_one_sign(brightened):
    metrics, candidates = brightened
    assert 1.15 < metrics["residual_noise_ratio"] < 1.5
    assert candidates["n_negative"] == 0
    assert candidates["sign_imbalance"] > 5.0


def test_sky_ramp_shows_in_the_mad_and_on_blank_sky(tilted):
    metrics, candidates = tilted
    assert metrics["scorr_mad_std"] > 1.5
    assert metrics["residual_noise_ratio"] < 1.10
    assert candidates["sky_source_std"] > 1.5
    assert colours(*tilted)["scorr_mad_std"] in {"orange", "red"}


def test_wide_psf_shows_on_sources():
    metrics, _ = measured(sigma=1.7 * 1.2)
    assert metrics["residual_noise_ratio"] > 1.5
    assert metrics["scorr_mad_std"] < 1.1


def test_bright_transient_does_not_condemn_the_noise():
    metrics, _ = measured(transients=((200.3, 210.8, 3e6),))
    assert metrics["scorr_std"] > 2.05
    assert judge(metrics, "zogy_differences")["scorr_std_trimmed"] == "green"
    assert judge(metrics, "zogy_differences")["residual_noise_ratio"] == "green"


def test_correlated_noise_is_not_white():
    pair, difference = twins(n=256)
    smooth = (difference.data + np.roll(difference.data, 1, axis=1)) / np.sqrt(2.0)
    metrics = difference_metrics(difference.replace(data=smooth), pair)
    assert metrics["noise_whiteness"] == pytest.approx(0.5, abs=0.05)


def test_bad_pixels_and_nan_change_nothing():
    pair, difference = twins(n=256)
    before = difference_metrics(difference, pair)
    data, score, mask = difference.data.copy(), difference.score_corrected.copy(), difference.mask.copy()
    data[40:60, 40:60], score[40:60, 40:60] = np.nan, np.nan
    data[100:110, 100:110], score[100:110, 100:110] = 1e9, 1e9
    mask[40:60, 40:60] |= bits("NO_DATA")
    mask[100:110, 100:110] |= bits("REF_SATURATED")
    after = difference_metrics(difference.replace(data=data, score_corrected=score, mask=mask), pair)
    for name in ("noise_level", "scorr_std", "scorr_mad_std", "residual_noise_ratio", "dynamic_range"):
        assert after[name] == pytest.approx(before[name], rel=0.1), name
    assert after["mask_ref_saturated"] == pytest.approx(100 / 256**2)
    assert after["masked_fraction"] == pytest.approx(500 / 256**2)
    assert after["lost_fraction"] == pytest.approx(100 / 256**2)


def test_all_bad_gives_nan_not_an_error():
    pair, difference = twins(n=64)
    mask = np.full(difference.shape, bits("BAD"), np.int32)
    metrics = difference_metrics(difference.replace(mask=mask), pair)
    assert np.isnan(metrics["noise_level"])
    assert np.isnan(metrics["scorr_std"])
    assert metrics["masked_fraction"] == 1.0
    assert judge(metrics, "zogy_differences")["detection_threshold"] == "none"


def test_without_pair_sources_are_unknown():
    _, difference = twins(n=128)
    metrics = difference_metrics(difference)
    assert np.isnan(metrics["residual_noise_ratio"])
    assert np.isnan(metrics["n_objects"])
    assert metrics["noise_level"] == pytest.approx(np.sqrt(2.0 * SKY), rel=0.1)


def test_candidate_counts():
    pair, difference = twins(transients=((200.3, 210.8, 3e4), (301.0, 100.0, 3e4)))
    table = peaks(difference)
    flagged = table.set_column(
        table.column_names.index("artifact"), "artifact", [["cosmic_ray"] + [""] * (table.num_rows - 1)]
    )
    metrics = candidate_metrics(flagged, difference, pair)
    assert metrics["n_detections"] == table.num_rows
    assert metrics["n_candidates"] == table.num_rows - 1
    assert metrics["n_positive"] + metrics["n_negative"] == metrics["n_candidates"]
    assert metrics["transient_fraction"] > metrics["transient_fraction_low"] > 0


def test_no_candidates_at_all():
    pair, difference = twins(n=256)
    metrics = candidate_metrics(peaks(difference).slice(0, 0), difference, pair)
    assert metrics["n_candidates"] == 0
    assert metrics["transient_fraction"] == 0.0
    assert np.isnan(metrics["sign_imbalance"])
    assert np.isnan(metrics["dipole_fraction"])


def tangent_plane(n, scale=1.01):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.1, 2.2], [n / 2, n / 2]
    wcs.wcs.cdelt = [-scale / 3600.0, scale / 3600.0]
    return wcs


def image(n=256, *, sigma=1.7, sky=400.0, **changes):
    data = np.random.default_rng(2).poisson(sky, (n, n)).astype(np.float32)
    known = {
        "wcs": tangent_plane(n),
        "psf": Psf(gaussian_stamp(sigma), (n, n)),
        "zeropoint": ZeroPoint(26.0),
        "exptime": 30.0,
        "mjd_start": 60000.0,
        "mjd_mid": 60000.1,
        "mjd_end": 60000.2,
    }
    return MaskedImage(data, **(known | changes))


def test_image_metrics_of_a_known_image():
    metrics = image_metrics(image(), survey_pixel_scale=1.0)
    assert metrics["sky_level"] == pytest.approx(400.0, abs=1.0)
    assert metrics["sky_rms"] == pytest.approx(20.0, rel=0.02)
    assert metrics["fwhm_px"] == pytest.approx(1.7 * 2.3548, rel=0.02)
    assert metrics["seeing"] == pytest.approx(1.7 * 2.3548 * 1.01, rel=0.02)
    assert metrics["elongation"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["pixel_scale_error"] == pytest.approx(0.01, abs=1e-4)
    assert metrics["wcs_round_trip"] < 1e-6
    assert metrics["time_valid"] == 1.0
    expected = 26.0 - 2.5 * np.log10(5.0 * 20.0 * np.sqrt(4.0 * np.pi) * 1.7)
    assert metrics["limiting_magnitude"] == pytest.approx(expected, abs=0.03)


def test_image_metrics_without_wcs_time_and_psf():
    metrics = image_metrics(MaskedImage(image().data))
    for name in ("wcs_round_trip", "pixel_scale", "seeing", "exptime", "time_valid", "limiting_magnitude"):
        assert np.isnan(metrics[name]), name
    verdict = judge(metrics, "science_images")
    assert verdict["wcs_round_trip"] == verdict["exptime"] == "none"


def test_times_out_of_order_are_invalid():
    assert image_metrics(image(mjd_mid=60000.3))["time_valid"] == 0.0


@pytest.mark.parametrize(("count", "colour"), [(0, "green"), (1, "orange"), (2000, "orange")])
def test_nan_pixels_are_counted(count, colour):
    data = image().data.copy()
    data[10:250:3, 10:250:3].flat[:count] = np.nan
    if count:
        assert count == np.count_nonzero(~np.isfinite(data))
    metrics = image_metrics(image().replace(data=data))
    assert metrics["n_infnan"] == count
    assert judge(metrics, "science_images")["infnan_inside"] == colour


def test_an_empty_border_is_no_fault():
    data = image().data.copy()
    data[:30], data[:, 200:] = np.nan, np.nan
    metrics = image_metrics(image().replace(data=data))
    assert metrics["n_infnan"] > 0
    assert metrics["infnan_inside"] == 0.0


@pytest.mark.parametrize(("share", "colour"), [(0.0, "green"), (0.049, "green"), (0.06, "red")])
def test_saturated_share(share, colour):
    mask = np.zeros((100, 100), np.int32)
    mask.ravel()[: int(share * 1e4)] = bits("SATURATED")
    metrics = image_metrics(image(100).replace(mask=mask))
    assert metrics["saturated_fraction"] == pytest.approx(share)
    assert judge(metrics, "science_images")["saturated_fraction"] == colour


def test_stars_are_measured_where_the_psf_is_unknown():
    pair, _ = twins(n=512)
    metrics = image_metrics(pair.science.replace(psf=None))
    assert metrics["fwhm_px"] == pytest.approx(1.7 * 2.3548, rel=0.1)
    assert 1.0 <= metrics["elongation"] < 1.15


def test_reference_against_science():
    metrics = reference_metrics(image(sky=100.0, sigma=1.5, n_exposures=20), image())
    assert metrics["n_coadded"] == 20
    assert metrics["template_coverage"] == 1.0
    assert metrics["seeing_ratio"] == pytest.approx(1.5 / 1.7, rel=0.01)
    expected = 2.5 * np.log10(2.0 * 1.7 / 1.5)
    assert metrics["depth_vs_science"] == pytest.approx(expected, abs=0.03)


def test_half_a_reference_covers_half():
    reference = image()
    mask = np.zeros(reference.shape, np.int32)
    mask[:, :128] = bits("NO_DATA")
    metrics = reference_metrics(reference.replace(mask=mask), image())
    assert metrics["template_coverage"] == pytest.approx(0.5, abs=0.02)
    assert judge(metrics, "aligned_pairs")["template_coverage"] == "yellow"


def test_no_overlap_covers_nothing():
    far = tangent_plane(256)
    far.wcs.crval = [151.1, 2.2]
    assert reference_metrics(image(wcs=far), image())["template_coverage"] == 0.0


def test_registration_metrics():
    pair, _ = twins(n=64)
    registration = Registration(
        "wcs+stars", 40, initial_offset=(3.0, -4.0), residual_offset=(0.03, -0.1), residual_rms=(0.1, 0.2)
    )
    metrics = registration_metrics(pair.replace(registration=registration, overlap=0.9))
    assert metrics["astrometric_offset"] == pytest.approx(0.1)
    assert metrics["astrometric_rms"] == pytest.approx(0.2)
    assert metrics["pointing_offset"] == pytest.approx(5.0)
    verdict = judge(metrics, "aligned_pairs")
    assert verdict["astrometric_offset"] == "yellow"
    assert verdict["template_coverage"] == "green"


def test_registration_without_stars_is_not_judged():
    pair, _ = twins(n=64)
    verdict = judge(registration_metrics(pair), "aligned_pairs")
    assert verdict["astrometric_offset"] == verdict["astrometric_rms"] == "none"


@pytest.mark.parametrize(
    ("ratio", "colour"),
    [(1.0, "green"), (1.021, "green"), (1.04, "yellow"), (0.92, "orange"), (1.4, "orange")],
)
def test_flux_ratio_is_judged_over_the_predicted_one(ratio, colour):
    pair, _ = twins(n=64, scale=ratio)
    metrics = normalization_metrics(pair)
    assert metrics["flux_ratio_offset"] == pytest.approx(ratio - 1.0)
    assert judge(metrics, "normalized_pairs")["flux_ratio_excess"] == colour


def test_normalization_needs_a_normalised_pair():
    pair, _ = twins(n=64)
    with pytest.raises(ValueError, match="not normalised"):
        normalization_metrics(pair.replace(normalization=None))


def test_mask_fractions_name_only_planes_that_occur():
    mask = np.zeros((10, 10), np.int32)
    assert mask_fractions(mask) == {"masked_fraction": 0.0, "lost_fraction": 0.0}
    mask[0] = bits("STREAK")
    mask[1] = bits("CROWDED")
    assert mask_fractions(mask) == {
        "masked_fraction": 0.1,
        "lost_fraction": 0.1,
        "mask_streak": 0.1,
        "mask_crowded": 0.1,
    }
