"""The `astrid` command.

Modules load what they need when a command runs, so that ``astrid --help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence

import click

from astrid_assets import __version__
from astrid_assets.cli.bench import bench
from astrid_assets.cli.demo import demo
from astrid_assets.cli.difference import difference
from astrid_assets.cli.export import export
from astrid_assets.cli.fields import fields
from astrid_assets.cli.output import print_json
from astrid_assets.cli.plan import plan
from astrid_assets.cli.record import record
from astrid_assets.cli.run import run
from astrid_assets.cli.standin import standin
from astrid_assets.errors import AstridError

__all__ = ["astrid", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="astrid")
def astrid() -> None:
    """Difference images, candidates and training sets from archive images of the sky.

    Every command takes --debug, which shows warnings and, after an error, the traceback.
    """


for _command in (demo, run, plan, fields, difference, export, bench, record, standin):
    astrid.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 if all went well, 1 after an error, 2 after a wrong call.

    Parameters
    ----------
    arguments
        Words of the command line; default are those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not debug:
        warnings.simplefilter("ignore")
    sys.exit(_run(words, debug=debug))


def _run(words: list[str], *, debug: bool) -> int:
    try:
        result = astrid.main(words, prog_name="astrid", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("stopped; what was finished is kept, the next run goes on from there", err=True)
        return 130
    except AstridError as error:
        return _report(str(error), words, debug=debug)
    except Exception as error:  # noqa: BLE001 -- the last line of defence before the user
        text = " ".join(str(error).split()) or "no message"
        return _report(f"{type(error).__name__}: {text} (--debug shows where)", words, debug=debug)
    return result if isinstance(result, int) else 0


def _report(message: str, words: list[str], *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)
    if "--json" in words:
        print_json({"error": message})
    return 1
