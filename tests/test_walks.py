"""The walks of examples/: commands from a folder on disk to predictions, run small."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

WALKS = Path(__file__).parents[1] / "examples" / "walks.py"
SHARED = Path(__file__).parents[2] / "shared" / "data"
CHANCE = {"photos": 90.0, "texts": 96.7, "table": 50.0, "gray": 75.0, "flags": 75.0}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data sets at {SHARED}")
@pytest.mark.parametrize("name", CHANCE)
def test_a_walk_ends_in_a_run_predictions_and_a_file_with_its_recipe(name, tmp_path):
    command = [sys.executable, str(WALKS), name, "--small", "--data-root", str(SHARED)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    described = json.loads((tmp_path / name / "run" / "run.json").read_text())
    kinds = {
        column["name"]: column["kind"] for column in described.get("record", {}).get("columns", ())
    }
    if name == "photos":
        assert (described["shape"], described["size"]) == ([3, 64, 64], 64)
    elif name == "gray":
        assert described["shape"] == [1, 40, 40]
    elif name == "table":
        assert kinds == {
            "city": "category",
            "plan": "category",
            "age": "number",
            "since": "date",
            "paperless": "boolean",
        }
    elif name == "flags":
        assert set(kinds.values()) == {"boolean"}
    metrics = json.loads((tmp_path / name / "run" / "metrics.json").read_text())
    assert metrics["test"]["error"] < CHANCE[name]
    model = onnx.load(tmp_path / name / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["class_names"]) == described["class_names"]
    assert json.loads(metadata["recipe"])
