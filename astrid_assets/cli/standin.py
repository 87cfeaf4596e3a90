"""``astrid standin``: a server on loopback in place of the archives."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astrid_assets.cli.output import print_table
from astrid_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from astrid_assets.archives.standin.faults import Fault
    from astrid_assets.archives.standin.server import StandIn

__all__ = ["read_fault", "standin"]

FAULT_SECONDS = 1.0
"""Seconds that refused clients are told to wait, and between the pieces of a body that drips."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1 [any free one].")
@click.option(
    "--recorded",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of recorded answers; what is not there is synthesised.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="MODE[:SHARE][@SERVICE]",
    help="Go wrong on purpose, e.g. unavailable:0.1@irsa; may be repeated; 'list' names the modes.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw of faults.")
@click.option(
    "--write-config",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an archives.yaml with the base URLs.",
)
def standin(
    port: int, recorded: Path | None, faults: tuple[str, ...], seed: int, config: Path | None
) -> None:
    """Serve all archives on loopback until Ctrl-C, from recorded answers and the simulated sky."""
    if "list" in faults:
        _list_modes()
        return
    from astrid_assets.archives.standin.services import stand_in

    ordered = [read_fault(text, seed=seed) for text in faults]
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has put us in the background
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt), stand_in(recorded=recorded, faults=ordered, port=port) as server:
        try:
            _announce(server, config)
            threading.Event().wait()
        finally:
            click.echo(f"{len(server.arrivals)} requests, {len(server.faulted)} faults made")


def read_fault(text: str, *, seed: int = 0) -> Fault:
    """Return the fault that a text ``MODE[:SHARE][@SERVICE]`` stands for.

    Parameters
    ----------
    text
        For example ``html:0.1@mast``; without a share it is every request, without a service everywhere.

    seed
        Seed of the draw.

    Raises
    ------
    ConfigurationError
        The mode is unknown, also to the service, or the share is no number between 0 and 1.
    """
    from astrid_assets.archives.standin.faults import HANDLER_MODES, Fault
    from astrid_assets.archives.standin.services import CONTENT_FAULTS

    rest, _, service = text.partition("@")
    mode, _, share = rest.partition(":")
    try:
        number = float(share or 1.0)
    except ValueError:
        msg = f"fault {text!r}: {share!r} is no share; write MODE[:SHARE][@SERVICE], such as html:0.1@mast"
        raise ConfigurationError(msg) from None
    services = (service,) if service else ()
    if mode in HANDLER_MODES and service and mode not in CONTENT_FAULTS.get(service, ()):
        msg = f"fault {text!r}: service {service} knows no fault {mode}; --fault list shows which do"
        raise ConfigurationError(msg)
    return Fault(mode, share=number, services=services, seed=seed, seconds=FAULT_SECONDS)


def _list_modes() -> None:
    from astrid_assets.archives.standin.faults import HANDLER_MODES, LINE_MODES
    from astrid_assets.archives.standin.services import CONTENT_FAULTS

    rows = [(mode, text, "all") for mode, text in sorted(LINE_MODES.items())]
    for mode, text in sorted(HANDLER_MODES.items()):
        services = [name for name, made in CONTENT_FAULTS.items() if mode in made]
        rows.append((mode, text, " ".join(services)))
    print_table(["mode", "what happens", "services"], rows)


def _announce(server: StandIn, config: Path | None) -> None:
    """Print where the services are and how the platform is told to use them."""
    lines = [f"  {name}: {{base_url: {at['base_url']}}}" for name, at in server.services().items()]
    text = "\n".join(["services:", *lines]) + "\n"
    if config is None:
        click.echo("# archives.yaml: put it beside fields.yaml, or name it in ASTRID_ARCHIVES")
        click.echo(text)
    else:
        config.write_text(text)
        click.echo(f"export ASTRID_ARCHIVES={config.absolute()}")
    click.echo(f"{len(lines)} services at {server.url}, until Ctrl-C")
