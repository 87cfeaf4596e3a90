"""The pages in a browser, as wide as a desktop and as a phone: nothing is broken, too wide or cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from astrid_assets_tests.test_ui import BROKEN, FOREIGN, Page, answer, free_port, running

pytestmark = [pytest.mark.ui, pytest.mark.service]

WIDTH = "Promise.resolve(document.documentElement.scrollWidth)"

CUT_OFF = """
Promise.resolve([...document.querySelectorAll("svg.chart text")].filter(text => {
    const card = text.closest("section").getBoundingClientRect(), box = text.getBoundingClientRect()
    return box.left < card.left || box.right > card.right
}).map(text => text.textContent))
"""
"""Texts of charts that reach beyond the card that they stand in."""

UNREADABLE = """
Promise.resolve([...document.querySelectorAll("svg.chart text")].filter(text =>
    text.getBoundingClientRect().height < 7).map(text => text.textContent))
"""
"""Texts of charts that are smaller than anyone can read."""

OPEN_ALL = "Promise.resolve([...document.querySelectorAll('details')].map(one => one.open = true).length)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium to look at the pages with")
    folder, port = tmp_path_factory.mktemp("chromium"), free_port()
    off = [
        f"--disable-{one}" for one in ("background-networking", "dev-shm-usage", "extensions", "gpu", "sync")
    ]
    command = [found, "--headless", "--no-sandbox", "--no-first-run", *off, f"--user-data-dir={folder}"]
    log = folder.with_suffix(".log")
    with running([*command, f"--remote-debugging-port={port}", "about:blank"], log) as process:
        targets = json.loads(answer(port, "/json", process, log))
        target = next(one for one in targets if one["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Page(connection, "")


def test_the_pages_are_whole_at_any_width(page: Page, reported: Path):
    pages = {
        "reports/tiny/index.html": "Known limitations found in this data",
        "catalog/index.html": "Data catalogue",
        "notebook/exploratory_data_preparation.html": "8. Visualization",
    }
    for width in (1280, 390):
        page.wide(width)
        for path, words in pages.items():
            page.open_file(reported / "data" / path, words)
            page.evaluate(OPEN_ALL, "what is folded")
            assert page.evaluate(WIDTH, "a width") <= width, path
            for code in (FOREIGN, BROKEN, CUT_OFF, UNREADABLE):
                assert page.evaluate(code, "the page") == [], (path, width)
    assert page.errors == []
