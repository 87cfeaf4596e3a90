"""Every stamp of every real alert becomes a finite view with a flag, whatever is wrong with it."""

import numpy as np
import pytest

from astrid_assets.archives.alerts import decode_stamps, read_packets
from astrid_assets.errors import BadAnswerError
from astrid_assets.images.triplets import LARGEST_VALUE
from astrid_assets.training.features import features
from astrid_assets.training.views import VIEW_BITS, VIEWS, model_view

pytestmark = pytest.mark.real_data

BROKEN = 5
"""Packets of the public set of 2018 that are cut off or damaged."""


@pytest.fixture(scope="module")
def packets(real_data):
    """Return the stamps of all packets that can be read, and the number of files that cannot."""
    found, broken = [], 0
    for file in sorted([*real_data.glob("alerts/**/*.avro"), *real_data.glob("http/ztf_alerts/**/*.avro")]):
        try:
            found += [decode_stamps(packet)[0] for packet in read_packets(file)]
        except BadAnswerError:
            broken += 1
    return np.stack(found), broken


@pytest.fixture(scope="module")
def collected(real_data):
    """Return all stamps of the collection, as in the packets: NaN, 3.4e38, odd shapes padded."""
    import pyarrow.parquet as pq

    names = [f"cutout_{name}" for name in ("science", "template", "difference")]
    table = pq.read_table(real_data / "alerts/ztf_alert_triplets_dev.parquet", columns=names)
    columns = [table[name].combine_chunks() for name in names]
    flat = [column.storage.flatten().to_numpy().reshape(-1, 63, 63) for column in columns]
    return np.stack(flat, axis=1)


def assert_good(stamps, values, flags):
    assert values.shape == (len(stamps), 3, 63, 63)
    assert np.isfinite(values).all()
    with np.errstate(invalid="ignore"):
        missing = ~(np.abs(stamps) <= LARGEST_VALUE)
    lost, gone = missing.any(axis=(2, 3)), missing.all(axis=(2, 3))
    np.testing.assert_array_equal((flags & VIEW_BITS["MISSING"]) != 0, lost)
    np.testing.assert_array_equal((flags & VIEW_BITS["EMPTY"]) != 0, gone)
    assert (values[missing] == 0).all()
    # what has pixels has a picture
    flat = (flags & VIEW_BITS["FLAT"]) != 0
    assert (values.any(axis=(2, 3)) == ~flat).all()


@pytest.mark.parametrize("view", VIEWS)
def test_every_packet_has_a_view(packets, view):
    stamps, broken = packets
    assert len(stamps) > 70
    assert broken == BROKEN
    assert_good(stamps, *model_view(stamps, view=view))


@pytest.mark.parametrize("view", VIEWS)
def test_every_stamp_of_the_collection_has_a_view(collected, view):
    assert len(collected) == 249
    assert_good(collected, *model_view(collected, view=view))


def test_every_stamp_has_features(packets, collected):
    for stamps in (packets[0], collected):
        assert np.isfinite(features(stamps)).all()
