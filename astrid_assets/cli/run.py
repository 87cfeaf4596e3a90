"""``astrid run``, ``plan`` and ``demo``: fields through the graph."""

import click

run = demo = plan = click.Command("run")
