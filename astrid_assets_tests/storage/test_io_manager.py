"""Tables between assets: one file a field, in the folder of the asset."""

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from astrid_assets.storage.io_manager import TableIOManager
from astrid_assets.storage.store import Store


def _context(asset: str, field: str) -> dg.OutputContext:
    return dg.build_output_context(
        asset_key=dg.AssetKey(asset),
        partition_key=field,
        asset_partitions_def=dg.StaticPartitionsDefinition([field]),
    )


@pytest.mark.parametrize("root", ["local", "memory"])
def test_a_table_lands_where_the_store_finds_it(root: str, tmp_path: Path):
    store = Store(str(tmp_path) if root == "local" else "memory://io")
    manager = TableIOManager(store)
    table = pa.table({"exposure_id": ["a", "b"], "x": [1.0, None]})
    for asset in ("science_images", "candidates"):
        manager.handle_output(_context(asset, "m101"), table)
    assert store.manifest("science_images", "m101").equals(table)
    assert store.read_table("candidates/m101/candidates.parquet").column_names == ["exposure_id", "x"]
    assert store.manifest("candidates", "m101") is None


def test_the_next_asset_gets_the_table_of_its_field(tmp_path: Path):
    manager = TableIOManager(Store(str(tmp_path)))
    fields = dg.StaticPartitionsDefinition(["m101", "cosmos"])
    table = pa.table({"x": [1]})
    got = {}

    @dg.asset(partitions_def=fields, name="science_images")
    def upstream() -> pa.Table:
        return table

    @dg.asset(partitions_def=fields)
    def downstream(context: dg.AssetExecutionContext, science_images: pa.Table) -> None:
        got[context.partition_key] = science_images

    dg.materialize([upstream, downstream], partition_key="m101", resources={"io_manager": manager})
    assert got["m101"].equals(table)


def test_a_field_without_the_asset_is_a_clear_error(tmp_path: Path):
    manager = TableIOManager(Store(str(tmp_path)))
    fields = dg.StaticPartitionsDefinition(["m101"])
    context = dg.build_input_context(
        asset_key=dg.AssetKey("references"),
        partition_key="m101",
        asset_partitions_def=fields,
        asset_partition_key_range=dg.PartitionKeyRange("m101", "m101"),
        upstream_output=_context("references", "m101"),
    )
    with pytest.raises(FileNotFoundError, match="reference"):
        manager.load_input(context)
