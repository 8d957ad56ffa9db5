"""What every test shares: its device, shapes checked at run time, fixed seeds, one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: a hub name must not wait
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import jaxtyping
import pytest
import torch
from hypothesis import settings

CORE = {
    "test_bernoulli",
    "test_calibration",
    "test_contract",
    "test_exact",
    "test_functional_baselines",
    "test_functional_dropmax",
    "test_fused",
    "test_gpu",
    "test_heads",
    "test_one_pass",
    "test_predictive",
    "test_smaller",
    "test_topk",
    "test_wrap",
}
"""The files that `pytest -m gpu` runs on CUDA, and that need torch, pytest and hypothesis alone."""

settings.register_profile("dropmax", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("dropmax")


def on_gpu(config):
    """Whether the run is one of `-m gpu`, or of `-m "gpu and ..."`."""
    return config.option.markexpr.startswith("gpu")


def pytest_configure(config):
    """Before dropmax is imported, choose the device, or have every annotated shape checked.

    On a GPU, and where UNTYPED is set, nothing is checked, as users have it.
    """
    if on_gpu(config):
        if not torch.cuda.is_available():
            pytest.exit("this machine has no CUDA device", returncode=0)
        torch.set_default_device("cuda")
    elif "UNTYPED" not in os.environ:
        jaxtyping.install_import_hook(["dropmax", "studies"], "beartype.beartype")


def pytest_ignore_collect(collection_path, config):
    """Files of tests that are not of the core may need what a GPU run hasn't got."""
    is_test = collection_path.name.startswith("test_")
    return (on_gpu(config) and is_test and collection_path.stem not in CORE) or None


def pytest_itemcollected(item):
    if item.path.stem in CORE and not item.get_closest_marker("cpu"):
        item.add_marker("gpu")


@pytest.fixture
def device():
    """The kind of device that tensors are made on: "cuda" under `-m gpu`, else "cpu"."""
    return torch.get_default_device().type


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    """Those in which the core keeps its tolerances."""
    return request.param


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _registered():
    """What a test registers is gone after it."""
    from dropmax.heads import registry

    before = dict(registry._heads)
    yield
    registry._heads.clear()
    registry._heads.update(before)


@pytest.fixture
def untyped():
    """Without the run-time type checks: as users run it, whose mistakes meet our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter):
    """Print what tests have counted."""
    counts = {}
    for report in terminalreporter.stats.get("passed", []):
        for what, count in report.user_properties:
            counts[what] = counts.get(what, 0) + count
    for what, count in counts.items():
        terminalreporter.write_line(f"{count:,} {what}")
