"""The rules of the layout: imports go down only, and Keras starts in few places."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

import classifier

SCRIPTS = ("prepro", "train", "predict")
# Each room may import itself and those named; ground is what lies in classifier/ itself.
BELOW = {
    "scripts": {"data", "training", "prediction", "evaluation", "network", "ground"},
    "training": {"data", "prediction", "evaluation", "network", "ground"},
    "evaluation": {"data", "prediction", "network", "ground"},
    "export": {"data", "prediction", "evaluation", "network", "ground"},
    "prediction": {"network", "ground"},
    "data": {"ground"},
    "network": {"ground"},
    "ground": {"ground"},
}
BACKENDS = {"keras", "tensorflow", "torch", "jax"}
MODULES = sorted(
    path
    for path in [*ROOT.glob("*.py"), *(ROOT / "classifier").rglob("*.py")]
    if path.name != "__init__.py"
)


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room_of(module):
    parts = module.split(".")
    if parts[0] != "classifier":
        return "network" if parts[0] == "resnet50" else "scripts"
    return parts[1] if len(parts) > 2 else "ground"


def imports(path, everywhere):
    """Return the modules that a file imports, anywhere or as it is imported itself."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if everywhere else top_level(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if ROOT.joinpath(*whole.split(".")).with_suffix(".py").is_file()
                          else node.module)  # fmt: skip
    return found


def top_level(node):
    """Yield the nodes of a module that run when it is imported: not functions, nor for types."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not for_types and not isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        ):
            yield child
            yield from top_level(child)


OURS = {name_of(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path):
    room = room_of(name_of(path))
    for module in imports(path, everywhere=True) & OURS:
        assert room_of(module) in BELOW[room] | {room} - {"scripts"}, module


def test_no_module_imports_itself_in_a_circle():
    graph = {name_of(path): imports(path, everywhere=False) & OURS for path in MODULES}
    done = set()
    while ready := {module for module in graph if graph[module] <= done} - done:
        done |= ready
    assert done == set(graph), f"circle among {sorted(set(graph) - done)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_keras_is_imported_where_it_trains_and_nowhere_else(path):
    if room_of(name_of(path)) in ("training", "network"):
        return
    roots = {module.split(".")[0] for module in imports(path, everywhere=False)}
    assert not roots & BACKENDS
    trains = {m for m in imports(path, everywhere=False) & OURS if room_of(m) == "network"}
    assert not trains


def test_importing_the_scripts_starts_no_keras_and_makes_no_file(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import prepro, train, predict
print(sorted(sys.modules.keys() & {BACKENDS!r}))
"""
    command = [sys.executable, "-B", "-c", code]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "[]\n"
    assert list(tmp_path.iterdir()) == []


def test_one_version_in_both_places():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{classifier.__version__}"' in text
