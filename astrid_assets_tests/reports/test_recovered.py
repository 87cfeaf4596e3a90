"""Counting injected sources."""

from __future__ import annotations

import pyarrow as pa
import pytest

from astrid_assets.reports.recovered import recovered
from astrid_assets.storage import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


def inject(store: Store, sky_field: str, *rows: tuple[str, bool, float, bool]) -> None:
    names = ("kind", "counted", "snr_expected", "found")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    store.write_table(f"{store.folder('injections', sky_field)}/injections.parquet", table)


def test_only_significant_sources_that_count_do(store):
    inject(
        store,
        "a",
        ("source", True, 12.0, True),
        ("source", True, -10.0, False),  # a fading source counts as well
        ("source", True, 9.9, True),
        ("source", False, 50.0, False),
        ("artifact", False, 50.0, True),
    )
    inject(store, "b", ("source", True, 30.0, True))
    assert recovered(["a", "b", "none"], store=store) == {"injections": 6, "injected": 3, "recovered": 2}


def test_no_injections_are_no_zero(store):
    assert set(recovered(["a"], store=store).values()) == {None}
