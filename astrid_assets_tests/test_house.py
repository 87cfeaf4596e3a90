"""The rules of the house: who may import what, what the README promises, what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "astrid_assets"
NETWORK = {"socket", "ssl", "http", "urllib", "ftplib", "requests", "httpx", "aiohttp", "astroquery", "pyvo"}
HEAVY = (
    "astropy",
    "matplotlib",
    "scipy",
    "numba",
    "reproject",
    "astroquery",
    "sep",
    "astroscrappy",
    "pyarrow.parquet",
    "h5py",
    "sklearn",
    "torch",
    "jinja2",
    "nbformat",
    "nbclient",
)


def modules() -> list[str]:
    """Return all modules of the package, dotted."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]


def source(module: str) -> Path:
    """Return the file of a module."""
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def imports(module: str) -> set[str]:
    """Return what a module imports at run time, also inside functions; not what only type checkers see."""
    tree = ast.parse(source(module).read_text())
    hidden = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for statement in branch.body
        for node in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def offenders(inside: str, forbidden: set[str], *, but: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """Return the modules below ``inside`` that import something forbidden, with what."""
    found = {}
    for module in modules():
        if module.startswith(inside) and not module.startswith(but or ("-",)):
            wrong = {i for i in imports(module) if any(i == f or i.startswith(f + ".") for f in forbidden)}
            if wrong:
                found[module] = wrong
    return found


@pytest.mark.parametrize("layer", ["astrid_assets.science", "astrid_assets.images"])
def test_science_and_images_stand_alone(layer):
    """Pure functions and types: no Dagster, no network, no storage, nothing of the layers above."""
    above = {
        f"astrid_assets.{name}" for name in ("storage", "assets", "archives", "automation", "cli", "checks")
    }
    assert offenders(layer, {"dagster", *NETWORK, *above}) == {}


def test_training_stands_alone():
    """Labels, splits, release format, loader, models: no Dagster, no network, no storage, no layers above."""
    above = {
        f"astrid_assets.{name}"
        for name in ("storage", "assets", "archives", "automation", "cli", "checks", "reports", "compute")
    }
    assert offenders("astrid_assets.training", {"dagster", *NETWORK, *above}) == {}


def test_reports_know_no_dagster():
    """They are drawn from what storage holds, also where no instance is."""
    assert offenders("astrid_assets.reports", {"dagster", *NETWORK, "astrid_assets.assets"}) == {}


def test_benchmarks_stand_beside_the_product():
    """They measure the science alone, and nothing but the command line knows them."""
    above = {
        f"astrid_assets.{name}"
        for name in ("storage", "assets", "archives", "automation", "cli", "checks", "reports", "training")
    }
    assert offenders("astrid_assets.benchmarks", {"dagster", *NETWORK, *above}) == {}
    but = ("astrid_assets.benchmarks", "astrid_assets.cli")
    assert offenders("astrid_assets", {"astrid_assets.benchmarks"}, but=but) == {}


def test_only_archives_open_sockets():
    """One door to the network."""
    assert offenders("astrid_assets", NETWORK, but=("astrid_assets.archives",)) == {}


def test_the_simulator_shares_nothing_with_the_science():
    """Otherwise the two would agree by construction."""
    assert offenders("astrid_assets.archives", {"astrid_assets.science", "sep", "astroscrappy"}) == {}


def test_assets_hold_no_maths():
    """Assets load, call science, describe and return."""
    assert (
        offenders("astrid_assets.assets", {"numpy", "scipy", "sep", "astroscrappy", "astropy", "math"}) == {}
    )


def test_checks_hold_no_maths():
    """Checks report the colours that assets stored."""
    assert offenders("astrid_assets.checks", {"numpy", "scipy", "sep", "astropy"}) == {}


def test_only_the_command_line_talks_to_people():
    """Nothing else depends on the command line or on click."""
    assert (
        offenders("astrid_assets", {"astrid_assets.cli", "click", "rich"}, but=("astrid_assets.cli",)) == {}
    )


def test_only_storage_writes_results():
    """Other layers hand files to storage, or a file object of storage to a writer."""
    writing = re.compile(
        r"(?<!store)\.(write_text|write_bytes|to_parquet|savefig)\(|(?<!archive\.)open\([^)]*[\"'][wax]b?[\"']"
    )
    allowed = ("astrid_assets.storage", "astrid_assets.archives", "astrid_assets.images", "astrid_assets.cli")
    # the registry and the demo clock are configuration, figures are drawn into memory, the log of
    # failed runs belongs to the instance
    settings = (
        "astrid_assets.fields",
        "astrid_assets.clock",
        "astrid_assets.reports",
        "astrid_assets.automation.failures",
    )
    found = {
        module: hits
        for module in modules()
        if not module.startswith((*allowed, *settings))
        and (hits := [m.group() for m in writing.finditer(source(module).read_text())])
    }
    assert found == {}


def test_definitions_load_nothing_heavy():
    """Astropy and friends are imported where they are used, so that the code location loads fast."""
    script = "import sys, astrid_assets.definitions; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


def test_workers_need_no_dagster():
    """What runs in the worker pool lies in modules that do without: each worker would pay seconds for it."""
    handed = re.compile(r"run_exposures\((?:partial\()?(\w+)")
    found = {
        module: function
        for module in modules()
        if "dagster" in imports(module)
        for function in handed.findall(source(module).read_text())
        if f"def {function}(" in source(module).read_text()
    }
    assert found == {}


def test_help_loads_nothing_heavy():
    """The command answers at once."""
    script = "import sys, astrid_assets.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [
        name for name in (*HEAVY, "dagster", "numpy", "pydantic", "pyarrow", "rich") if name in loaded
    ] == []


@pytest.mark.parametrize("module", modules())
def test_every_module_says_what_it_is_for(module):
    """A docstring, and ``__all__`` wherever there are public names."""
    tree = ast.parse(source(module).read_text())
    assert ast.get_docstring(tree), "no docstring"
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
    exported = [n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    assert exported or not names, f"__all__ is missing ({', '.join(names)})"


def functions() -> list[tuple[str, int]]:
    """Return name and lines of code (without docstring) of every function of the package."""
    found = []
    for module in modules():
        for node in ast.walk(ast.parse(source(module).read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                found.append((f"{module}.{node.name}", length))
    return found


def test_functions_are_short():
    """Median at most 12 lines of code, hardly one over 60, none over 80."""
    lengths = sorted(length for _, length in functions())
    assert lengths[len(lengths) // 2] <= 12
    assert [name for name, length in functions() if length > 80] == []
    assert sum(length > 60 for length in lengths) <= len(lengths) // 100


def tracked() -> list[Path]:
    """Return the files of the repository that are text."""
    try:
        listing = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        files = [ROOT / name for name in listing.splitlines()]
    except (FileNotFoundError, subprocess.CalledProcessError):
        files = [
            f
            for f in ROOT.rglob("*")
            if ".venv" not in f.parts and f.suffix in {".py", ".toml", ".md", ".yaml"}
        ]
    return [f for f in files if f.is_file() and f.suffix not in {".png", ".fits", ".fz", ".gz", ".parquet"}]


def test_no_machine_path_and_no_registry_address():
    """What works on one machine only, and where packages come from, is no part of the project."""
    machine = r"(?<![\w./-])/(?:home|root|Users|opt|work|tmp|var/tmp)/\w"
    registry = r"index-url|pythonhosted|pypi\.org|https?://\S+\.whl"
    pattern = re.compile(f"{machine}|{registry}")
    found = {
        f"{file.relative_to(ROOT)}:{number}": line.strip()
        for file in tracked()
        if file != Path(__file__)
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line) and "--no-emit-index-url" not in line
    }
    assert found == {}


def test_lock_file_pins_every_package_with_hashes():
    """Names, versions and hashes; nothing is taken from an address."""
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) > 50
    assert [e.split("\n")[0] for e in entries if not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ ", e)] == []
    assert [e.split("\n")[0] for e in entries if "--hash=sha256:" not in e] == []
    assert "://" not in text


def test_picture_of_the_graph_is_the_graph():
    """The arrows in the README are the dependencies of the assets, the boxes their groups.

    Arrows into reports are left out: they read everything.
    """
    from astrid_assets.definitions import defs

    picture = (ROOT / "README.md").read_text().split("```mermaid")[1].split("```")[0]
    specs = list(defs.resolve_all_asset_specs())
    drawn = set(re.findall(r"(\w+) --> (\w+)", picture))
    flow = [spec for spec in specs if spec.group_name != "reporting"]
    assert drawn == {(d.asset_key.to_user_string(), s.key.to_user_string()) for s in flow for d in s.deps}
    boxes = {
        (name, group)
        for group, body in re.findall(r"subgraph (\w+)\n(.*?)\n  end", picture, re.DOTALL)
        for name in re.findall(r"\w+", body)
    }
    assert boxes == {(spec.key.to_user_string(), spec.group_name) for spec in specs}


# --- the table of the README: line of the plan -> asset -> file -> test ---------------------------


def plan_table() -> list[list[str]]:
    """Return the rows of the README's table of the plan, four cells each."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## The plan, line by line")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def names(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


PHASES = (
    "1.1",
    "1.2",
    "2.1",
    "2.2",
    "2.3",
    "3.1",
    "3.2",
    "4.1",
    "4.2",
    "4.3",
    "5.1",
    "5.2",
    "5.3",
    "6.1",
    "6.2",
    "6.3",
)


def test_plan_table_covers_the_phases():
    """Every part of the plan has its lines."""
    covered = {row[0].split()[0] for row in plan_table()}
    assert set(PHASES) <= covered


def test_plan_table_names_assets_that_exist():
    """The second column names assets of the code location."""
    from astrid_assets.definitions import defs

    assets = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    named = {name for row in plan_table() for name in names(row[1])}
    assert named <= assets
    assert assets <= named


@pytest.mark.parametrize("row", plan_table(), ids=lambda row: row[0])
def test_plan_table_names_files_and_tests_that_exist(row):
    """The third column names files, the fourth tests as ``file`` or ``file::function``."""
    line, _, files, tests = row
    assert line
    assert names(files), "no file"
    assert names(tests), "no test"
    assert [f for f in names(files) if not (ROOT / f).exists()] == []
    for test in names(tests):
        file, _, function = test.partition("::")
        path = ROOT / "astrid_assets_tests" / file
        assert path.exists(), test
        assert not function or f"def {function}(" in path.read_text(), test
