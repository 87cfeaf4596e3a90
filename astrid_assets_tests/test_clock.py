"""Clock: `ASTRID_NOW`, then the pinned clock (simulated survey only), then the real time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from astrid_assets.clock import DEMO_CLOCK, from_mjd, now_mjd, parse_time, pin_simulated_clock, simulated_now
from astrid_assets.errors import ConfigurationError
from astrid_assets.home import dagster_home


@pytest.mark.parametrize(
    ("text", "mjd"),
    [
        ("1858-11-17", 0.0),
        ("2000-01-01T12:00:00", 51544.5),
        ("2011-08-24", 55797.0),
        ("2011-08-24T02:00:00+02:00", 55797.0),
        (" 55797.25 ", 55797.25),
    ],
)
def test_parse_time(text, mjd):
    """MJD of known dates (J2000.0 is MJD 51544.5 by definition)."""
    assert parse_time(text) == pytest.approx(mjd, abs=1e-9)


def test_agrees_with_astropy():
    """The plain calendar arithmetic gives astropy's UTC."""
    from astropy.time import Time

    for text in ("1995-07-01T03:04:05.678", "2024-02-29T23:59:59"):
        assert parse_time(text) == pytest.approx(Time(text, scale="utc").mjd, abs=1e-8)
    assert from_mjd(60000.5) == datetime(2023, 2, 25, 12, tzinfo=UTC)


def test_order_of_clocks(monkeypatch):
    """The pinned clock is that of the simulated survey alone; ASTRID_NOW sets both."""
    real = now_mjd()
    assert simulated_now() == pytest.approx(real, abs=1.0)
    pin_simulated_clock(DEMO_CLOCK)
    assert simulated_now() == DEMO_CLOCK
    assert now_mjd() == pytest.approx(real, abs=1.0)
    monkeypatch.setenv("ASTRID_NOW", "2020-01-01")
    assert simulated_now() == now_mjd() == 58849.0


def test_errors_name_the_source(monkeypatch):
    """A clock that cannot be read says which one it is."""
    pin_simulated_clock(1.0)
    (dagster_home() / "simulated_clock").write_text("soon")
    with pytest.raises(ConfigurationError, match="simulated_clock: 'soon' is neither"):
        simulated_now()
    monkeypatch.setenv("ASTRID_NOW", "tomorrow")
    with pytest.raises(ConfigurationError, match="ASTRID_NOW: 'tomorrow' is neither"):
        now_mjd()
