"""Light curves against the tabulated facts, and statistics against theory."""

from __future__ import annotations

import json

import numpy as np
import pytest

from astrid_assets.science import light_curves as lc

HALF = 2.5 * np.log10(2.0)

# measured on template files: rise from a tenth, from half, fall to half, decline in 15, 40 and 80 days
TABLE = [
    ("sn_ia", "hsiao", "g", 16.0, 10.0, 13.5, 0.9, 2.7, 3.4),
    ("sn_ia", "hsiao", "r", 16.5, 10.5, 15.5, 0.7, 1.8, 3.1),
    ("sn_ibc", "ib", "g", 16.5, 9.5, 12.0, 1.1, 2.0, 3.2),
    ("sn_ibc", "ic", "r", 15.5, 10.5, 17.8, 0.7, 1.7, 2.6),
    ("sn_ibc", "ic_bl", "g", 12.5, 8.8, 9.8, 1.2, 2.5, 3.6),
    ("sn_iin", "vincenzi", "g", 13.0, 8.5, 20.5, 0.5, 1.8, 3.7),
    ("sn_iin", "slow", "g", 29.0, 15.0, None, 0.3, 0.8, 1.2),
]


def drawn(kind, seed=1, **changes):
    return lc.draw(kind, np.random.default_rng(seed)) | changes


@pytest.mark.parametrize(("kind", "name", "band", "tenth", "half", "fall", "dm15", "dm40", "dm80"), TABLE)
def test_supernovae_rise_and_decline_as_measured(kind, name, band, tenth, half, fall, dm15, dm40, dm80):
    curve = drawn(kind, template=name, stretch=1.0)
    t = np.arange(-40.0, 100.0, 0.05)
    m = lc.magnitude(kind, curve, t, band)
    m = m - m.min()
    assert abs(t[np.argmin(m)]) < 0.1
    rising, falling = t < 0, t > 0
    assert t[rising][np.searchsorted(-m[rising], -2.5)] == pytest.approx(-tenth, abs=0.1)
    assert t[rising][np.searchsorted(-m[rising], -HALF)] == pytest.approx(-half, abs=0.1)
    if fall is not None:
        assert t[falling][np.searchsorted(m[falling], HALF)] == pytest.approx(fall, abs=0.1)
    for day, expected in ((15.0, dm15), (40.0, dm40), (80.0, dm80)):
        assert np.interp(day, t, m) == pytest.approx(expected, abs=0.01)
    assert (np.diff(m[falling]) > -1e-9).all()


def test_a_supernova_ia_begins_some_twenty_days_before_its_peak():
    curve = drawn("sn_ia", stretch=1.0)
    assert np.isinf(lc.magnitude("sn_ia", curve, -25.0, "g"))
    assert np.isfinite(lc.magnitude("sn_ia", curve, -19.0, "g"))
    # the flux goes with the square of the time since then
    t = np.array([-20.0, -18.0])
    flux = 10 ** (-0.4 * lc.magnitude("sn_ia", curve, t, "g"))
    start = -(np.sqrt(5) * 16.0 - 10.0) / (np.sqrt(5) - 1)
    assert flux[1] / flux[0] == pytest.approx(((t[1] - start) / (t[0] - start)) ** 2, rel=1e-6)


def test_colours_and_stretch():
    curve = drawn("sn_ia", stretch=1.0)
    assert lc.magnitude("sn_ia", curve, 0.0, "g") - lc.magnitude("sn_ia", curve, 0.0, "r") == pytest.approx(
        -0.18
    )
    slow = curve | {"stretch": 1.2}
    assert lc.magnitude("sn_ia", slow, 18.0, "r") == pytest.approx(lc.magnitude("sn_ia", curve, 15.0, "r"))
    assert lc.magnitude("sn_ia", curve, 5.0, "F200W") == lc.magnitude("sn_ia", curve, 5.0, "r")


def test_a_plateau_lasts_a_hundred_days_drops_by_two_magnitudes_and_ends_in_cobalt():
    curve = drawn("sn_iip", rise=8.0, length=100.0, slope=0.8)
    m = {t: float(lc.magnitude("sn_iip", curve, t, "r")) for t in (0.0, 70.0, 92.0, 140.0, 240.0)}
    assert m[70.0] - m[0.0] == pytest.approx(0.8 * 0.7, abs=0.03)
    # in the middle of the drop half of it has gone
    assert m[92.0] == pytest.approx(0.8 * 0.92 + 1.0, abs=0.01)
    assert m[140.0] == pytest.approx(0.8 * 0.92 + 2.0 + 0.98 * 0.48, abs=0.01)
    assert m[240.0] - m[140.0] == pytest.approx(0.98, abs=0.01)
    fall = lc.magnitude("sn_iip", curve | {"slope": 0.0}, np.array([82.0, 102.0]), "r")
    assert fall[1] - fall[0] == pytest.approx(0.8 * 2.0 + 0.098, abs=0.01)
    assert np.isinf(lc.magnitude("sn_iip", curve, -8.5, "r"))


def test_novae_keep_the_relation_of_t2_and_t3():
    times = []
    for seed in range(300):
        curve = drawn("nova", seed)
        t2, t3 = curve["t2"], curve["t3"]
        assert lc.magnitude("nova", curve, np.array([t2, t3]), "g") == pytest.approx([2.0, 3.0])
        assert t3 == pytest.approx(2.78 * t2**0.877)
        times.append(t2)
    assert 2.4 <= min(times) < 4.0
    assert 60.0 < max(times) <= 86.0


def test_tidal_disruptions_rise_as_a_gaussian_and_fall_by_an_exponential_or_a_power():
    curve = drawn("tde", rise=10.0, time=50.0, power=None)
    at = lc.magnitude("tde", curve, np.array([-10.0, 50.0]), "r")
    assert 10 ** (-0.4 * at) == pytest.approx([np.exp(-0.5), np.exp(-1.0)])
    curve["power"] = -5 / 3
    assert 10 ** (-0.4 * lc.magnitude("tde", curve, 50.0, "r")) == pytest.approx(2.0 ** (-5 / 3))
    assert {drawn("tde", seed)["power"] for seed in range(20)} == {None, -5 / 3}


def test_kilonovae_fade_fastest_in_the_blue():
    curve = drawn("kilonova")
    for band, rate in (("g", 2.0), ("r", 1.2), ("i", 0.8)):
        m = lc.magnitude("kilonova", curve, np.array([0.5, 1.5]), band)
        assert m[1] - m[0] == pytest.approx(rate)
    assert np.isinf(lc.magnitude("kilonova", curve, -1.01 * curve["rise"], "r"))


def test_a_flare_has_the_shape_and_the_integral_of_the_template():
    curve = drawn("flare", fwhm=14.4, amplitude=1.0)  # a hundredth of a day
    t = np.arange(-0.02, 0.3, 1e-5)
    excess = 10 ** (-0.4 * lc.magnitude("flare", curve, t, "g")) - 1.0
    assert excess.max() == pytest.approx(1.0, abs=0.01)
    # the fall begins 0.8 percent below the end of the rise, as published
    assert excess[np.searchsorted(t, 1e-9)] == pytest.approx(0.992, abs=0.003)
    above = t[excess > 0.5]
    assert above[-1] - above[0] == pytest.approx(0.01, rel=0.1)
    rise = 1.0 - 1.94053 / 2 - 0.175084 / 3 + 2.24588 / 4 - 1.12498 / 5
    fall = 0.689008 / 1.60053 + 0.302963 / 0.278318
    assert excess.sum() * 1e-5 == pytest.approx((rise + fall) * 0.01, rel=0.01)
    assert (excess[t < -0.01] == 0).all()


@pytest.mark.parametrize(("kind", "low", "high"), [("rrab", 0.5, 1.3), ("rrc", 0.3, 0.5)])
def test_pulsating_stars_have_their_amplitudes_in_g_and_less_in_redder_bands(kind, low, high):
    for seed in range(20):
        curve = drawn(kind, seed)
        t = np.linspace(0.0, curve["period"], 2001)
        g, r = (lc.magnitude(kind, curve, t, band) for band in "gr")
        assert low <= np.ptp(g) <= high
        assert np.ptp(r) / np.ptp(g) == pytest.approx(0.72)
        assert lc.magnitude(kind, curve, t + curve["period"], "g") == pytest.approx(g, abs=1e-9)
        if kind == "rrab":
            assert np.mean(np.diff(g) < 0) == pytest.approx(curve["rise"], abs=0.002)


def test_eclipses_are_as_deep_and_as_long_as_drawn():
    curve = drawn("eclipsing") | {
        "type": "detached",
        "period": 4.0,
        "amplitude": 0.8,
        "duty": 0.1,
        "second": 0.25,
        "reference": 0.0,
    }
    t = np.linspace(0.0, 4.0, 40001)
    m = lc.magnitude("eclipsing", curve, t, "r")
    assert m[0] == pytest.approx(0.8)
    assert lc.magnitude("eclipsing", curve, 2.0, "r") == pytest.approx(0.2)
    assert np.mean(m > 0) == pytest.approx(0.2, abs=0.001)
    assert {drawn("eclipsing", seed)["type"] for seed in range(20)} == {"detached", "contact"}


def test_a_damped_random_walk_has_the_variance_and_the_memory_of_theory():
    tau, sf = 30.0, 0.3
    curves = [drawn("agn", seed, tau=tau, amplitude=sf) for seed in range(400)]
    t = np.array([-40.0, -10.0, 0.0, 10.0, 30.0, 60.0])
    values = np.array([lc.magnitude("agn", curve, t, "r") for curve in curves])
    assert values.var(axis=0) == pytest.approx(np.full(6, sf**2 / 2), rel=0.25)
    for i, j in ((0, 1), (1, 3), (2, 4), (0, 5)):
        lag = t[j] - t[i]
        structure = np.mean((values[:, j] - values[:, i]) ** 2)
        assert structure == pytest.approx(sf**2 * (1 - np.exp(-lag / tau)), rel=0.3)


def test_a_random_walk_is_the_same_whatever_times_are_asked_for():
    curve = drawn("agn")
    alone = lc.magnitude("agn", curve, 12.3, "r")
    assert lc.magnitude("agn", curve, np.array([-300.0, 12.3, 500.0]), "r")[1] == alone


def test_the_reference_state_of_a_variable_is_one_that_it_takes():
    for kind in ("rrab", "rrc", "eclipsing"):
        curve = drawn(kind, 3, magnitude=18.0)
        t = np.linspace(0, curve["period"], 5001)
        m = lc.magnitude(kind, curve, t, "g")
        assert m.min() - 1e-6 <= lc.reference_magnitude(kind, curve, "g") <= m.max() + 1e-6
    assert lc.reference_magnitude("flare", drawn("flare", magnitude=17.0), "g") == 17.0
    assert np.isinf(lc.reference_magnitude("sn_ia", drawn("sn_ia"), "g"))


@pytest.mark.parametrize("kind", lc.KINDS)
def test_every_class_is_seeded_finite_when_visible_and_json(kind):
    curve = drawn(kind, 5)
    assert curve == drawn(kind, 5)
    assert json.loads(json.dumps(curve)) == curve
    low, high = lc.visible_phases(kind, curve)
    t = np.linspace(low * 0.5, high * 0.9, 11)
    for band in ("u", "g", "r", "i", "z"):
        m = lc.magnitude(kind, curve | {"mjd": 60000.0}, 60000.0 + t, band)
        assert m.shape == (11,)
        assert np.isfinite(m).all()


def test_every_number_has_its_unit_and_source():
    def entries(table, path=""):
        if "unit" in table or "source" in table:
            yield path, table
            return
        for name, value in table.items():
            yield from (
                entries(value, f"{path}.{name}") if isinstance(value, dict) else [(f"{path}.{name}", {})]
            )

    found = list(entries(lc.facts()))
    assert len(found) > 40
    assert [path for path, entry in found if not (entry.get("unit") and entry.get("source"))] == []


def test_the_classes_of_the_sites_exist():
    for site in lc.facts()["site"].values():
        for classes in (site["classes"], site.get("nuclear_classes", {})):
            assert set(classes) <= set(lc.KINDS)
            assert not classes or sum(classes.values()) == pytest.approx(1.0)
