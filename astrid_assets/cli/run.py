"""``astrid run``."""

import click

run = click.Command("run")
