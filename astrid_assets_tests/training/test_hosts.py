"""Hosts of injections have the names of the catalogue."""

import pyarrow as pa

from astrid_assets.training.hosts import catalogue_hosts

KNOWN = pa.table(
    {
        "object_id": ["s1", "g1", "v1", "t1", "g2"],
        "kind": ["star", "galaxy", "variable", "transient", "galaxy"],
        "ra": [10.0, 10.0, 20.0, 30.0, 0.00005],
        "dec": [5.0, 5.0002, -1.0, 2.0, 0.0],
    }
)


def test_the_galaxy_comes_first_then_the_star():
    hosts = ["J10.0000+5.0001", "J20.0001-1.0000", "J30.0000+2.0000", "J11.0000+5.0000", "X10Y12", "", None]
    assert catalogue_hosts(hosts, KNOWN) == {"J10.0000+5.0001": "g1", "J20.0001-1.0000": "v1"}
    assert catalogue_hosts(["J359.9999+0.0000"], KNOWN) == {"J359.9999+0.0000": "g2"}
    assert catalogue_hosts(["J10.0000+5.0010"], KNOWN) == {}
    assert catalogue_hosts(["J10.0000+5.0010"], KNOWN, radius=5.0) == {"J10.0000+5.0010": "g1"}
    assert catalogue_hosts(hosts, KNOWN.slice(0, 0)) == {}
