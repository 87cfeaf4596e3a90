"""What a set of samples holds: counts, and the numbers by which it is judged."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from astrid_assets.training.schema import DOMAINS, LABELS
from astrid_assets.training.shortcut import PROBE_FEATURES, shortcut_auc

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["counts", "exposure_metrics", "field_metrics"]

_LEAST = 20
"""Samples below which a share says nothing."""

_NAMES = {value: name for name, value in LABELS.items()}


def counts(samples: pa.Table) -> dict[str, dict[str, int]]:
    """Return how many samples there are by label, domain, type, label source and nuisance.

    Types are those of labelled samples, with the label in front.
    """
    rows = samples.select(["label", "domain", "type", "label_source", "nuisance"]).to_pylist()
    kinds = Counter(f"{_NAMES[r['label']]}: {r['type'] or 'unknown'}" for r in rows if r["label"] >= 0)
    return {
        "label": _sorted(Counter(_NAMES[r["label"]] for r in rows)),
        "domain": _sorted(Counter(f"{_NAMES[r['label']]}, {r['domain']}" for r in rows)),
        "type": _sorted(kinds),
        "label_source": _sorted(Counter(r["label_source"] for r in rows)),
        "nuisance": _sorted(Counter(r["nuisance"] or "none" for r in rows)),
    }


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {name: counter[name] for name in sorted(counter)}


def exposure_metrics(samples: pa.Table, stamps: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return the numbers of one exposure.

    Parameters
    ----------
    samples
        Sample table.

    stamps, mask
        Its triplets ``(n, 3, S, S)``.

    Returns
    -------
    dict
        ``n_real``, ``n_bogus``, ``n_unlabelled``; ``views_finite``, share of the samples whose model view
        is finite; ``sources_filled``, share with label source, and confidence where labelled;
        ``bogus_without_cause``, bogus samples of which nobody says why; ``unmatched_rows``, rows that are
        not those of the stamps.
    """
    from astrid_assets.training.views import model_view

    rows = samples.select(["label", "label_source", "label_confidence", "h5_row"]).to_pylist()
    n = max(len(rows), 1)
    size = min(63, stamps.shape[-1])
    finite = np.isfinite(model_view(stamps, size=size, mask=mask)[0]).all(axis=(1, 2, 3))
    filled = [
        bool(r["label_source"]) and (r["label"] == -1 or (r["label_confidence"] or 0.0) > 0.0) for r in rows
    ]
    found = Counter(r["label"] for r in rows)
    return {
        "n_real": float(found[1]),
        "n_bogus": float(found[0]),
        "n_unlabelled": float(found[-1]),
        "views_finite": float(finite.sum()) / n if rows else np.nan,
        "sources_filled": sum(filled) / n if rows else np.nan,
        "bogus_without_cause": float(sum(r["label"] == 0 and r["label_source"] == "none" for r in rows)),
        "unmatched_rows": float(sum(r["h5_row"] != i for i, r in enumerate(rows)) + len(stamps) - len(rows)),
    }


def field_metrics(samples: pa.Table, probe: pa.Table) -> dict[str, Any]:
    """Return the numbers of all samples of a field.

    Parameters
    ----------
    samples
        Sample table.

    probe
        Tables of `astrid_assets.training.samples.Samples.probe_table`.

    Returns
    -------
    dict
        ``real_share`` of the labelled samples; ``smallest_stratum``, samples in the rarest pair of label and
        domain; ``missing_gap``, difference between the classes in the share of samples with missing pixels;
        ``shortcut_auc``. NaN where there are too few samples to measure it.
    """
    labels = np.array(probe["label"].to_pylist(), int)
    known = labels >= 0
    strata = Counter(zip(samples["label"].to_pylist(), samples["domain"].to_pylist(), strict=True))
    features = np.array([probe[name].to_numpy() for name in PROBE_FEATURES]).T.reshape(
        -1, len(PROBE_FEATURES)
    )
    return {
        "real_share": float((labels == 1).sum() / known.sum()) if known.sum() >= _LEAST else np.nan,
        "smallest_stratum": float(min(strata[label, domain] for label in (0, 1) for domain in DOMAINS)),
        "missing_gap": _missing_gap(features, labels),
        "shortcut_auc": shortcut_auc(features, labels, probe["object_id"].to_pylist()),
    }


def _missing_gap(features: np.ndarray, labels: np.ndarray) -> float:
    lacking = features[:, [i for i, n in enumerate(PROBE_FEATURES) if n.startswith("missing")]].any(axis=1)
    if min((labels == 0).sum(), (labels == 1).sum()) < _LEAST:
        return float("nan")
    return float(abs(lacking[labels == 1].mean() - lacking[labels == 0].mean()))
