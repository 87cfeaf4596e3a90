"""Splits: nothing in two of them, none empty, the same every time."""

import numpy as np
import pytest

from astrid_assets.errors import ReleaseRefusedError
from astrid_assets.training.splits import SPLITS, group_table, healpix_cells, prove, split_samples
from astrid_assets_tests.training.samples import samples

# centres of three HEALPix cells (nside 16) far apart
PLACES = [(10.0, 0.0), (120.0, 40.0), (250.0, -30.0), (40.0, 60.0), (200.0, 10.0)]


def field(name, place, n, *, labels=(1, 0), **more):
    """Return samples of a field, two labels in turn, a tenth of a degree apart."""
    ra, dec = place
    return [
        {
            "field": name,
            "exposure_id": f"{name}1",
            "sample_id": f"{name}{i}",
            "candidate_id": f"{name}{i}",
            "sha1": f"{name}{i}",
            "ra": ra + 0.001 * (i % 50) * 5,
            "dec": dec + 0.005 * (i // 50),
            "x": 80.0 * i,
            "label": labels[i % len(labels)],
            **more,
        }
        for i in range(n)
    ]


def shares(splits):
    return [round(float((splits.split == name).mean()), 2) for name in SPLITS]


def together(splits, *rows):
    return len({splits.group[row] for row in rows}) == 1


def test_cells_are_those_of_astropy_healpix():
    import astropy.units as u
    from astropy_healpix import HEALPix

    table = samples([{"ra": ra, "dec": dec} for ra, dec in PLACES] + [{"ra": None, "dec": None}])
    frame = HEALPix(nside=16, order="nested")
    wanted = [int(frame.lonlat_to_healpix(ra * u.deg, dec * u.deg)) for ra, dec in PLACES]
    assert healpix_cells(table, 16).tolist() == [*wanted, -1]


def test_three_fields_make_three_splits():
    """Train gets the largest; train and test hold both labels."""
    rows = field("a", PLACES[0], 40) + field("b", PLACES[1], 100) + field("c", PLACES[2], 30)
    splits = split_samples(samples(rows))
    assert shares(splits)[0] == round(100 / 170, 2)
    assert set(splits.split) == set(SPLITS)
    assert all(row["shared"] == 0 for row in splits.proof)
    assert {row["what"] for row in splits.proof} >= {"object_id", "host_id", "sha1", "healpix_cell"}


def test_a_stray_sample_is_no_split_of_its_own():
    """A field that reaches over the border of a cell leaves a group of one there."""
    rows = field("a", PLACES[0], 40) + field("b", PLACES[1], 100) + field("c", PLACES[2], 30)
    splits = split_samples(samples(rows + field("d", PLACES[3], 1)))
    assert min(np.bincount([SPLITS.index(name) for name in splits.split])) >= 30


def test_shares_are_met_where_groups_allow():
    """Sixty cells of equal size: eighty, ten, ten."""
    rows = [r for i in range(60) for r in field(f"f{i}", (6.0 * i, 0.0), 10)]
    splits = split_samples(samples(rows))
    np.testing.assert_allclose(shares(splits), [0.8, 0.1, 0.1], atol=0.02)


def test_the_order_of_rows_does_not_matter():
    rows = [r for i in range(12) for r in field(f"f{i}", (25.0 * i, 5.0), 4 + i)]
    splits = split_samples(samples(rows))
    back = split_samples(samples(rows[::-1]))
    assert back.split[::-1].tolist() == splits.split.tolist()
    assert back.group[::-1].tolist() == splits.group.tolist()


def test_the_seed_decides_between_equals():
    rows = [r for i in range(5) for r in field(f"f{i}", PLACES[i], 10)]
    found = {tuple(split_samples(samples(rows), seed=str(seed)).split[::10]) for seed in range(12)}
    assert len(found) > 2


@pytest.mark.parametrize(
    "link", [{"object_id": "J1"}, {"host_id": "galaxy 7"}, {"sha1": "same"}], ids=["object", "host", "pixels"]
)
def test_what_is_shared_joins_groups(link):
    rows = [r for i in range(5) for r in field(f"f{i}", PLACES[i], 10)]
    assert not together(split_samples(samples(rows)), 0, 40)
    rows[3] |= link
    rows[47] |= link
    splits = split_samples(samples(rows))
    assert together(splits, 0, 40)
    assert all(row["shared"] == 0 for row in splits.proof)


def boundary():
    """Return positions 1 arcsec on either side of a border between two cells."""
    ra = np.linspace(0, 20, 20 * 3600 * 2)
    cell = healpix_cells(samples_at(ra), 16)
    step = int(np.flatnonzero(np.diff(cell))[0])
    middle = (ra[step] + ra[step + 1]) / 2
    return middle - 1 / 3600, middle + 1 / 3600


def samples_at(ra):
    import pyarrow as pa

    return pa.table({"ra": ra, "dec": np.full(len(ra), 5.0)})


@pytest.mark.parametrize("gap", [1.0, 20.0])
def test_neighbours_across_a_border_stay_together(gap):
    """By their distance or, in one exposure, because their stamps share pixels."""
    left, right = boundary()
    left, right = left - (gap - 1) / 3600, right + (gap - 1) / 3600
    rows = [r for i in range(3) for r in field(f"f{i}", PLACES[1 + i], 10)]
    rows += [
        {"field": "x", "exposure_id": "x1", "sample_id": "l", "sha1": "l", "ra": left, "dec": 5.0, "x": 5.0},
        {"field": "x", "exposure_id": "x2", "sample_id": "r", "sha1": "r", "ra": right, "dec": 5.0, "x": 5.0},
    ]
    table = samples(rows)
    assert len(set(healpix_cells(table, 16)[-2:])) == 2
    assert together(split_samples(table), 30, 31) == (gap == 1.0)
    rows[-1] |= {"exposure_id": "x1", "x": 5.0 + 2 * gap}
    assert together(split_samples(samples(rows)), 30, 31)
    rows[-1]["x"] = 90.0
    assert together(split_samples(samples(rows)), 30, 31) == (gap == 1.0)


def test_samples_without_position_stay_with_their_field():
    rows = [r for i in range(3) for r in field(f"f{i}", PLACES[i], 10, ra=None, dec=None)]
    splits = split_samples(samples(rows))
    assert sorted(set(splits.group)) == ["field:f0", "field:f1", "field:f2"]
    assert (splits.cell == -1).all()


def test_groups_are_listed():
    rows = field("a", PLACES[0], 4, labels=(1, -1)) + field("b", PLACES[1], 6) + field("c", PLACES[2], 10)
    table = samples(rows)
    rows = group_table(split_samples(table), table.column("label").to_numpy())
    assert sorted((r["real"], r["bogus"], r["unlabelled"]) for r in rows) == [(2, 0, 2), (3, 3, 0), (5, 5, 0)]
    assert {r["split"] for r in rows} == set(SPLITS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([("a", (1, 0))], "test would hold no bogus"),
        ([("a", (1, 0)), ("b", (1, 0))], "validation would be empty"),
        ([("a", (1, 0)), ("b", (1,)), ("c", (1,))], "hold no bogus"),
        ([("a", (1, 0)), ("b", (-1,)), ("c", (-1,))], "would"),
        ([], "are 0 groups"),
    ],
)
def test_too_few_groups_are_refused_with_the_reason(fields, reason):
    rows = [r for i, (name, labels) in enumerate(fields) for r in field(name, PLACES[i], 8, labels=labels)]
    with pytest.raises(ReleaseRefusedError, match=reason) as error:
        split_samples(samples(rows))
    assert "add a field in another part of the sky" in str(error.value)


def test_the_proof_finds_a_leak():
    """It looks at the samples, not at the groups."""
    rows = field("a", PLACES[0], 4, object_id="J1", host_id="h")
    rows[1] |= {"ra": rows[0]["ra"] + 1e-4, "sha1": rows[0]["sha1"]}
    split = np.array(["train", "test", "test", "validation"])
    proof = prove(samples(rows), split, nside=16, radius=5.0, size=65)
    found = {(r["what"], r["first"], r["second"]): r["shared"] for r in proof}
    for what in ("healpix_cell", "object_id", "host_id", "sha1", "pairs_within_radius"):
        assert found[what, "train", "test"] == 1
    assert found["sha1", "train", "validation"] == 0
    assert found["sample_id", "train", "test"] == 0
