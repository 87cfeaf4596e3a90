"""A field of ZTF through the graph against the stand-in: as archive ``simulated``, but over HTTP."""

from __future__ import annotations

import pytest

from astrid_assets.archives.standin.irsa_ztf import IrsaZtf
from astrid_assets.archives.standin.server import StandIn
from astrid_assets.automation.runs import run_fields
from astrid_assets.fields import load_fields
from astrid_assets.storage.store import Store
from astrid_assets_tests.tiny import install

pytestmark = [pytest.mark.service, pytest.mark.slow]

FIELD = """
{name}:
  ra: 265.0
  dec: 62.0
  radius: 0.05
  archives: [{archive}]
  bands: [r]
  science_window: {{start: 2025-09-12}}
  reference_window: {{start: 2024-11-01, end: 2025-03-01}}
  {archive}: {{{options}}}
"""
ASSETS = (
    "observations",
    "references",
    "science_images",
    "aligned_pairs",
    "normalized_pairs",
    "zogy_differences",
)

APART = {"archive", "calibration", "pairing_key", "path", "files", "sha256", "revision", "input_sha256"}
"""What depends on where a file came from, and what the files are called by."""

OF_THE_RUN = {"product_id", "seconds", "written"}


def test_a_field_of_ztf_gives_what_the_simulated_one_gives():
    """The same exposures, selected alike, with the same measurements up to the differences."""
    home = install(
        FIELD.format(
            name="sim",
            archive="simulated",
            options="seed: 3, shape: [256, 256], dirt: false, corrupt: false",
        ),
        FIELD.format(name="ztf", archive="irsa_ztf", options="limiting_magnitude_min: 15.0"),
    )
    fields = load_fields()
    service = IrsaZtf([fields["ztf"]], simulation=fields["sim"].simulated)
    with StandIn({"irsa": service}) as standin:
        address = standin.base_url("irsa")
        (home / "archives.yaml").write_text(
            f"services:\n  irsa: {{base_url: '{address}', per_second: 100.0}}\n"
        )
        assert run_fields(["ztf"], assets=list(ASSETS), workers=1, release=False).ok
        assert standin.errors == []
        asked = len(standin.arrivals)
    assert asked == 2 + 3 * 3  # two searches, three files of each of three images
    assert run_fields(["sim"], assets=list(ASSETS), workers=1, release=False).ok
    for asset in ASSETS[1:]:
        ours, theirs = (Store().manifest(asset, name) for name in ("ztf", "sim"))
        assert ours.num_rows == theirs.num_rows > 0
        different = {n for n in ours.column_names if ours[n].to_pylist() != theirs[n].to_pylist()}
        assert different <= APART | OF_THE_RUN
