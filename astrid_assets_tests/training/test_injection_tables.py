"""Numbers and tables of injections, from rows whose answer is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from astrid_assets.checks.limits import judge
from astrid_assets.training.injection_columns import INJECTION_COLUMNS, injection_schema
from astrid_assets.training.injection_tables import (
    counted,
    efficiency_metrics,
    efficiency_table,
    flux_pulls,
    injection_metrics,
    truth_table,
)

NAN = float("nan")


def sample(n=3000, *, seed=1, depth=5.0, scatter=1.0, bias=0.0, exposures=10):
    """Truth rows of sources with S/N from 1 to 300, found where noise carries them over a limit."""
    rng = np.random.default_rng(seed)
    snr = 10 ** rng.uniform(0, 2.5, n)
    off = rng.normal(0, scatter, n)
    columns = {
        "injection_id": [f"i{k}" for k in range(n)],
        "exposure_id": [f"e{k % exposures}" for k in range(n)],
        "band": ["g" if k % exposures < exposures // 2 else "r" for k in range(n)],
        "site": ["host" if k % 3 else "blank" for k in range(n)],
        "kind": "source",
        "flux": snr * 20.0,
        "magnitude": 26.0 - 2.5 * np.log10(snr * 20.0),
        "snr_expected": snr,
        "clean": True,
        "counted": True,
        "flux_before": rng.normal(0, 20.0, n),
        "flux_forced": snr * 20.0 * (1 + bias) + 20.0 * off,
        "flux_forced_error": 20.0,
        "detected": snr + rng.normal(0, 1, n) > depth,
        "separation": np.abs(rng.normal(0, 0.1, n)),
        "drop_reason": "",
    }
    columns["found"] = columns["detected"]
    return columns


def metrics(**changes):
    columns = sample() | changes
    return injection_metrics(truth_table(columns, 3000))


def test_a_table_has_all_columns_with_unit_and_description():
    table = truth_table(sample(10), 10)
    assert table.column_names == list(INJECTION_COLUMNS)
    assert all(field.metadata[b"description"] for field in injection_schema())
    assert table["gain"].null_count == 10
    assert set(table["kind"].to_pylist()) == {"source"}
    assert truth_table(sample(10) | {"x_end": [NAN] * 10}, 10)["x_end"].null_count == 10


def test_stars_trails_and_what_was_there_do_not_count():
    site = np.array(["host", "star", "trail", "blank", "beside", "host"])
    clean = np.array([True, True, True, False, True, True])
    reason = np.array(["", "", "", "masked", "flagged:not_psf", "in_clean_run"], object)
    assert counted(site, clean, reason).tolist() == [True, False, False, False, True, False]


def test_good_injections_are_green():
    result = metrics()
    assert result["completeness_10"] == 1.0
    assert result["pull_std"] == pytest.approx(1.0, abs=0.04)
    assert result["flux_bias"] == pytest.approx(0.0, abs=0.003)
    assert result["position_rms"] == pytest.approx(0.1 / np.sqrt(2), abs=0.005)
    result |= efficiency_metrics(efficiency_table(truth_table(sample(), 3000), n_bootstrap=10))
    assert set(judge(result, "injections").values()) <= {"green", "none"}


@pytest.mark.parametrize(
    ("fault", "metric"),
    [
        ({"scatter": 1.5}, "pull_std_excess"),
        ({"bias": 0.05}, "flux_bias_excess"),
        ({"depth": 9.0}, "m50_offset"),
        ({"depth": 15.0}, "completeness_10_20_high"),
    ],
)
def test_faults_show_in_their_own_numbers(fault, metric):
    table = truth_table(sample(**fault), 3000)
    result = injection_metrics(table) | efficiency_metrics(efficiency_table(table, n_bootstrap=10))
    assert judge(result, "injections")[metric] not in ("green", "none")


def test_few_sources_condemn_nothing():
    table = truth_table(sample(8, scatter=1.6) | {"found": [True] * 6 + [False] * 2}, 8)
    assert set(judge(injection_metrics(table), "injections").values()) <= {"green", "yellow", "none"}
    nothing = injection_metrics(injection_schema().empty_table())
    assert nothing["n_injected"] == 0
    assert np.isnan(nothing["completeness_10"])


def test_what_was_there_or_is_masked_says_nothing_about_errors():
    columns = sample(100)
    full = len(flux_pulls(truth_table(columns, 100)))
    loud = columns | {"flux_before": np.full(100, 100.0)}
    masked = columns | {"drop_reason": ["flagged:masked"] * 100}
    assert full > 40
    assert len(flux_pulls(truth_table(loud, 100))) == 0
    assert len(flux_pulls(truth_table(masked, 100))) == 0


def test_efficiency_is_fitted_for_all_bands_each_band_and_site():
    rows = efficiency_table(truth_table(sample(), 3000), n_bootstrap=20).to_pylist()
    names = [(r["band"], r["site"]) for r in rows]
    assert names == [("all", "all"), ("g", "all"), ("r", "all"), ("all", "host"), ("all", "blank")]
    assert sum(r["n_sources"] for r in rows[1:3]) == rows[0]["n_sources"] == 3000
    for row in rows:
        assert row["snr50"] == pytest.approx(5.0, abs=4 * row["snr50_error"])
        assert row["m50"] == pytest.approx(26.0 - 2.5 * np.log10(100.0), abs=0.1)
    few = efficiency_table(truth_table(sample(5), 5)).to_pylist()[0]
    assert (few["m50"], few["snr50"], few["n_sources"]) == (None, None, 5)
    assert np.isnan(efficiency_metrics(pa.Table.from_pylist([few]))["epsilon0"])
