"""Which handler answers for which service.

Every module of handlers has one function ``handlers(recorded) -> {service: handler}``; ``recorded`` is
a folder of recorded answers, or None where all is to be synthesised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from astrid_assets.archives.standin.faults import Fault
from astrid_assets.archives.standin.server import Handler, StandIn

__all__ = ["CONTENT_FAULTS", "all_handlers", "stand_in"]

_TABLE = ("duplicates", "empty_table")
_REPORTING = (*_TABLE, "error_status")

CONTENT_FAULTS: Mapping[str, tuple[str, ...]] = {
    "alerce": (*_TABLE, "pages"),
    "bts": _TABLE,
    "fink": _TABLE,
    "gaia": _REPORTING,
    "irsa": (*_REPORTING, "clipped"),
    "kowalski": ("empty_table", "error_status"),
    "lasair": ("empty_table", "error_status", "pages"),
    "mast": (*_REPORTING, "executing", "pages"),
    "mast_resolver": ("empty_table", "error_status"),
    "ned": _REPORTING,
    "ps1": (*_TABLE, "clipped"),
    "ps1_catalog": _REPORTING,
    "sdss": _TABLE,
    "simbad": _REPORTING,
    "skybot": _REPORTING,
    "skyview": ("clipped", "error_status"),
    "tesscut": ("empty_table",),
    "tns": _REPORTING,
    "vizier": _REPORTING,
    "xmatch": _TABLE,
}
"""Faults of the content (`HANDLER_MODES`) that the handler of a service makes; it ignores the others."""


def all_handlers(recorded: Path | None = None) -> dict[str, Handler]:
    """Return the handlers of all services of ``services.toml``, by service.

    Parameters
    ----------
    recorded
        Folder of recorded answers of the services; None to synthesise all.
    """
    from astrid_assets.archives.standin import alerts, catalogues, irsa_ztf, mast, ps1, skyview

    modules = (mast, ps1, skyview, irsa_ztf, alerts, catalogues)
    return {service: handler for module in modules for service, handler in module.handlers(recorded).items()}


def stand_in(*, recorded: Path | None = None, faults: Sequence[Fault] = (), port: int = 0) -> StandIn:
    """Return a stand-in for all services, to be entered with ``with``.

    Parameters
    ----------
    recorded
        Folder of recorded answers.

    faults
        Faults to make.

    port
        Port on 127.0.0.1; 0 for any free one.
    """
    return StandIn(all_handlers(recorded), faults, port=port)
