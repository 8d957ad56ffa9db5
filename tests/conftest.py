"""What every test shares: shapes checked at run time, fixed seeds, one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before datasets is imported: a hub name must not wait
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

import jaxtyping
import pytest
import torch
from hypothesis import settings

# Before dropmax is imported: every annotated shape and type is checked at each call, but for a run
# as users have it, without.
if "UNTYPED" not in os.environ:
    jaxtyping.install_import_hook(["dropmax", "studies"], "beartype.beartype")

settings.register_profile("dropmax", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("dropmax")


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
