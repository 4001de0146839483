"""The arrows between the packages, and what may not be imported early."""

import ast
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "suites", "algorithms", "reports")
COMPOSITION_ROOT = {
    f"harness.{name}"
    for name in (
        "cli",
        "all_command",
        "composition",
        "recorded",
        "report_commands",
        "evidence_commands",
        "film_commands",
        "tuning_commands",
    )
}
ALLOWED = {
    "harness": ("harness",),
    "suites": ("suites", "harness.api", "harness.files"),
    "algorithms": ("algorithms", "harness.api"),
    "reports": ("reports", "harness.spec", "harness.errors", "harness.files", "harness.yaml_source"),
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
DYNAMIC = {"import_module", "__import__"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imported(source: str, module: str, is_package: bool = False) -> list[str]:
    """Every module, or name within a module, that a source text imports, wherever in the text it does so."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                package = module if is_package else module.rpartition(".")[0]
                origin = importlib.util.resolve_name("." * node.level + origin, package)
            found += [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in DYNAMIC:
            found += [str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant)]
    return found


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of our own packages that the arrows do not allow to this module."""
    if module in COMPOSITION_ROOT:
        return []
    allowed = ALLOWED[module.partition(".")[0]]
    ours = [name for name in imported(source, module, is_package) if name.partition(".")[0] in (*PACKAGES, "tests")]
    return [name for name in ours if not any(name == one or name.startswith(f"{one}.") for one in allowed)]


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_follow_the_arrows(module):
    path = SOURCES[module]
    assert violations(path.read_text(), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("suites.navigation", "from algorithms.samples import Samples"),
        ("suites.navigation", "from harness import rollout"),
        ("suites.navigation", "import harness.rollout"),
        ("suites.navigation", "import harness"),
        ("algorithms.maml", "import suites"),
        ("algorithms.maml", "def late():\n    from suites.navigation import SUITE"),
        ("algorithms.maml", "if TYPE_CHECKING:\n    from harness.spec import RunSpec"),
        ("algorithms.maml", "import importlib\nimportlib.import_module('harness.runner')"),
        ("harness.runner", "from algorithms import ALGORITHMS"),
        ("harness.runner", "from reports.page import render"),
        ("reports.page", "from harness.runner import run"),
        ("reports.page", "from harness import tracking"),
        ("reports.page", "from algorithms.settings import AdamSettings"),
        ("reports.page", "from tests.conftest import double"),
    ],
)
def test_a_planted_violation_is_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("suites.navigation", "from harness.api import Suite\nfrom suites import other\nimport numpy"),
        ("algorithms.maml", "from harness import api\nfrom .samples import Samples"),
        (
            "reports.page",
            "from harness.spec import RunSpec\nfrom harness.files import sha256\nfrom reports import tables",
        ),
        ("harness.composition", "from algorithms import ALGORITHMS\nfrom suites import SUITES"),
        ("harness.runner", "from harness import api"),
    ],
)
def test_what_the_arrows_allow_passes(module, source):
    assert violations(source, module) == []


def test_every_source_file_of_the_four_packages_is_looked_at():
    assert {module.partition(".")[0] for module in SOURCES} == set(PACKAGES)
    assert {"harness.api", "suites.navigation", "algorithms.maml", "reports.page"} <= SOURCES.keys()


def test_no_module_has_a_name_that_says_nothing():
    assert [module for module in SOURCES if module.rpartition(".")[2] in NAMES_THAT_SAY_NOTHING] == []


def loads_torch(*modules: str) -> bool:
    """Whether a fresh interpreter has torch loaded after importing these modules."""
    program = f"import sys\nimport {', '.join(modules)}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_studies_and_registries_are_read_without_torch():
    assert not loads_torch("harness.api", "harness.spec", "harness.study", "harness.cli", "suites", "algorithms")


def test_all_of_reports_imports_without_torch():
    import reports

    assert not loads_torch(*(module.name for module in pkgutil.walk_packages(reports.__path__, "reports.")))


def test_the_check_for_torch_can_see_it():
    assert loads_torch("harness.rollout")
