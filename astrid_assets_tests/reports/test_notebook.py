"""The notebook: eight sections, executed without an error, the same from the same text."""

from __future__ import annotations

import json

import pytest

from astrid_assets.reports.notebook import build, execute, notebook_text
from astrid_assets.reports.pages import inspect

SECTIONS = (
    "1. Setup and configuration",
    "2. Data acquisition",
    "3. Image processing",
    "4. Image differencing",
    "5. Source extraction",
    "6. Anomaly data preparation",
    "7. Data export",
    "8. Visualization",
)


@pytest.fixture
def executed(store) -> dict:
    return json.loads(store.path("notebook/exploratory_data_preparation.ipynb").read_bytes())


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_it_has_the_eight_sections_of_the_plan():
    found = [cell.source for cell in build(notebook_text()).cells if cell.cell_type == "markdown"]
    headings = [line[2:] for text in found for line in text.splitlines() if line.startswith("# ")]
    assert tuple(headings[1:]) == SECTIONS


def test_every_cell_ran(executed):
    cells = code(executed)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"] == []
    assert [o for cell in cells for o in cell["outputs"] if o.get("name") == "stderr"] == []


def test_it_draws_and_finds(executed):
    outputs = [o for cell in code(executed) for o in cell["outputs"]]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3
    text = "".join("".join(o.get("text", "")) for o in outputs)
    assert "detections above 5 sigma" in text
    assert "field tiny, exposure ztf_" in text


def test_its_page_needs_nothing_from_elsewhere(store):
    page = store.path("notebook/exploratory_data_preparation.html").read_text()
    facts = inspect(page)
    assert facts.external == ()
    assert facts.n_blank == 0
    assert facts.n_figures >= 3
    assert "<script" not in page


def test_it_tells_no_time_and_no_place(executed, reported):
    text = json.dumps(executed)
    assert str(reported) not in text
    assert "iopub" not in text


def test_the_same_text_gives_the_same_notebook():
    assert build(notebook_text()) == build(notebook_text())


def test_a_cell_that_fails_is_told_and_the_others_run():
    text = "# 1. One\n\n```python\n1 / 0\n```\n\n```python\nprint('after', 6 * 7)\n```\n"
    done = execute(text, timeout=60)
    assert done.errors == ("ZeroDivisionError: division by zero",)
    assert done.n_code == 2
    assert "after 42" in done.html
