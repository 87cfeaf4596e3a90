"""The exploration notebook: made from its text, executed on the data as they are, and shown as a page."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from astrid_assets.reports.pages import PageFacts, inspect, render
from astrid_assets.storage.manifest import digest

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["NOTEBOOK", "Executed", "build", "execute", "notebook_text", "to_html"]

NOTEBOOK = "exploratory_data_preparation"
"""Name of the notebook's files, and of its text among the templates."""

_CODE = re.compile(r"^```python\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^# (\d)\. (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Executed:
    """An executed notebook."""

    ipynb: str
    """The notebook as JSON text."""

    html: str
    """The same as a page."""

    errors: tuple[str, ...]
    """Errors of its cells, one line each."""

    n_code: int
    """Cells that were executed."""

    facts: PageFacts
    """What is in the page."""


def notebook_text() -> str:
    """Return the text of the notebook: Markdown, with code between fences."""
    return files("astrid_assets.reports").joinpath("templates", f"{NOTEBOOK}.md").read_text("utf-8")


def build(text: str) -> NotebookNode:
    """Make a notebook from a text: a heading starts a Markdown cell, a fence of Python a code cell.

    Parameters
    ----------
    text
        Markdown; the same text gives the same notebook.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = []
    # the pattern has one group, so that every second piece is code
    for i, piece in enumerate(_CODE.split(text)):
        if piece.strip():
            name = digest([len(cells), piece])[:8]
            make = new_code_cell if i % 2 else new_markdown_cell
            cells.append(make(piece.strip(), id=name))
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def execute(text: str, *, timeout: float) -> Executed:
    """Execute a notebook in a kernel of this interpreter, in an empty folder.

    A cell that fails is followed by the others; its error stands in the notebook.

    Parameters
    ----------
    text
        As for `build`.

    timeout
        Longest time of one cell, s.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = build(text)
    with tempfile.TemporaryDirectory(prefix="astrid-nb-") as folder:
        manager = _kernel_manager(Path(folder))
        client = NotebookClient(
            notebook,
            timeout=timeout,
            allow_errors=True,
            record_timing=False,
            coalesce_streams=True,  # or what is printed comes in pieces that differ from time to time
            km=manager,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=_environment(folder))
        finally:
            _stop(client, manager)
    _describe_pictures(notebook)
    html = to_html(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    errors = [o for cell in code for o in cell.outputs if o.output_type == "error"]
    return Executed(
        ipynb=nbformat.writes(notebook) + "\n",
        html=html,
        errors=tuple(" ".join(f"{o.ename}: {o.evalue}".split())[:300] for o in errors),
        n_code=len(code),
        facts=inspect(html),
    )


def _describe_pictures(notebook: NotebookNode) -> None:
    """Give each picture the heading that it stands under as its text, for those who cannot see it."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next((x for x in reversed(cell.source.splitlines()) if x.startswith("#")), heading)
            continue
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": heading.strip("# ")}


def _stop(client: Any, manager: Any) -> None:
    """End the kernel and close all sockets; nothing in it is worth waiting for."""
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    if client.kc is not None:
        client.kc.stop_channels()
        client.kc.context.destroy(linger=0)


def _environment(folder: str) -> dict[str, str]:
    """Return the environment of the kernel: nothing of the user's IPython, and no network of its own."""
    import os

    return {**os.environ, "IPYTHONDIR": folder, "JUPYTER_RUNTIME_DIR": folder, "PYTHONWARNINGS": "ignore"}


def _kernel_manager(folder: Path) -> Any:
    """Return a manager that starts this interpreter and talks to it through files, not through ports."""
    from jupyter_client import KernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    quiet = ["--HistoryManager.enabled=False", "--IPKernelApp.log_level=40"]
    # drawing each figure twice to find its margins takes a second in all
    quiet.append("--InlineBackend.print_figure_kwargs={'bbox_inches': None}")

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=[*command, *quiet], display_name=kernel_name, language="python")

    return KernelManager(
        kernel_name="python3",
        kernel_spec_manager=ThisInterpreter(),
        transport="ipc",
        connection_file=str(folder / "kernel.json"),
        ip=str(folder / "kernel"),
    )


def to_html(notebook: NotebookNode) -> str:
    """Show a notebook as one file that needs nothing from elsewhere.

    Parameters
    ----------
    notebook
        An executed notebook.
    """
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(template_name="basic", embed_images=True)
    exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(notebook)
    light, dark = (HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "github-dark"))
    sections = [
        {"name": f"{number}.-{title.replace(' ', '-')}", "words": title}
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for number, title in _SECTION.findall(cell.source)
    ]
    return render(
        "notebook.html",
        body=Markup(body),  # noqa: S704 - nbconvert escapes what cells print
        light=Markup(light),  # noqa: S704
        dark=Markup(dark),  # noqa: S704
        sections=sections,
    )
