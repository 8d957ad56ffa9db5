"""benchmarks/gpu.py at a tiny size on the CPU."""

import json
import subprocess
import sys

import pytest
from blocks import ROOT


def lines_of(*options):
    """Those that it prints."""
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--tiny", *options]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.slow
def test_lines_are_printed_and_written_and_say_what_is_not_run(tmp_path):
    out = tmp_path / "gpu.jsonl"
    lines = lines_of("--out", out)
    assert [json.loads(line) for line in out.read_text().splitlines()] == lines
    parity, costs = ([x for x in lines if x["kind"] == kind] for kind in ("parity", "cost"))
    assert {(x["method"], x["dtype"]) for x in parity} == {
        (method, dtype)
        for method in ("fused", "fused, rank 32")
        for dtype in ("float32", "bfloat16 autocast")
    }
    for line in parity:
        limit = 1e-5 if line["dtype"] == "float32" else 0.1
        assert 0.0 <= line["loss_error"] < limit
        assert 0.0 < line["gradient_error"] < limit
    for line in costs:
        assert line["milliseconds"] > 0
        assert line["share"] > 0
        assert (line["ratio"] == 1.0) == (line["method"] == "linear + cross_entropy")
        assert line["megabytes"] is line["megabytes_above"] is line["ratio_above"] is None
    unreached = lines_of("--budget", "0")
    planned = ("kind", "instances", "width", "classes", "method", "dtype")
    assert [[x[k] for k in planned] for x in unreached] == [[x[k] for k in planned] for x in lines]
    assert {x["not run"] for x in unreached} == {"no time left"}
