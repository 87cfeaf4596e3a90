"""Numbers by which a set of samples is judged."""

import numpy as np
import pyarrow as pa
import pytest

from astrid_assets.checks.limits import judge
from astrid_assets.training.samples import no_samples
from astrid_assets.training.schema import sample_schema
from astrid_assets.training.shortcut import PROBE_FEATURES
from astrid_assets.training.summary import counts, exposure_metrics, field_metrics


def samples(labels, **columns):
    rows = [
        {"label": label, "label_source": "vetted", "label_confidence": 0.9, "h5_row": i, "domain": "observed"}
        | {"type": "x", "nuisance": "", "sample_id": f"s{i}", "object_id": f"o{i}"}
        for i, label in enumerate(labels)
    ]
    for name, values in columns.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    return pa.Table.from_pylist(rows, schema=sample_schema())


def stamps(n):
    values = np.random.default_rng(0).normal(size=(n, 3, 65, 65)).astype(np.float32)
    return values, np.zeros(values.shape, np.uint8)


def test_faults_show_and_are_judged():
    good = exposure_metrics(samples([1, 0, -1]), *stamps(3))
    assert (good["n_real"], good["n_bogus"], good["n_unlabelled"]) == (1, 1, 1)
    assert set(judge(good, "training_set").values()) == {"green", "none"}
    faults = {
        "bogus_without_cause": samples([1, 0], label_source=["vetted", "none"]),
        "sources_filled": samples([1, 0], label_confidence=[0.9, None]),
        "unmatched_rows": samples([1, 0], h5_row=[1, 0]),
    }
    for metric, table in faults.items():
        assert judge(exposure_metrics(table, *stamps(2)), "training_set")[metric] == "red"
    values, mask = stamps(2)
    values[0] = np.nan
    values[1, 1] = 3.4e38
    assert exposure_metrics(samples([1, 0]), values, mask)["views_finite"] == 1.0


def test_numbers_of_a_field():
    labels = [1] * 60 + [0] * 40 + [-1] * 10
    domains = ["observed", "injected"] * 55
    table = samples(labels, domain=domains)
    features = np.zeros((110, 9))
    features[:6, PROBE_FEATURES.index("missing_science")] = 0.5
    probe = {n: features[:, i] for i, n in enumerate(PROBE_FEATURES)}
    probe = pa.table({"label": labels, "object_id": table["object_id"], **probe})
    found = field_metrics(table, probe)
    assert found["real_share"] == 0.6
    assert found["smallest_stratum"] == 20
    assert found["missing_gap"] == pytest.approx(0.1)
    assert np.isnan(found["shortcut_auc"])
    one_sided = field_metrics(samples(labels), probe)
    assert judge(one_sided, "training_set")["smallest_stratum"] == "yellow"


def test_an_empty_field_has_no_numbers():
    nothing = no_samples()
    found = field_metrics(nothing.table, nothing.probe_table())
    assert found.pop("smallest_stratum") == 0
    assert np.isnan(list(found.values())).all()
    assert counts(nothing.table) == {n: {} for n in ("label", "domain", "type", "label_source", "nuisance")}


def test_counts_name_what_they_count():
    table = samples([1, 0, 0, -1], type=["sn_ia", "ghost", "", "x"], nuisance=["", "edge", "", ""])
    found = counts(table)
    assert found["label"] == {"bogus": 2, "real": 1, "unlabelled": 1}
    assert found["type"] == {"bogus: ghost": 1, "bogus: unknown": 1, "real: sn_ia": 1}
    assert found["nuisance"] == {"edge": 1, "none": 3}
