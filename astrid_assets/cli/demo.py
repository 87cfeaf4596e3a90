"""``astrid demo``."""

import click

demo = click.Command("demo")
