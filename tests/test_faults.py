"""Tests that can fail: each planted fault turns a named test red."""

import pkgutil
import subprocess
import sys

import pytest
from planted import CONTROL, FAULTS, TESTS


def run_with(fault):
    """How the test of a fault ends in a process in which it is planted."""
    command = [sys.executable, TESTS / "planted.py", fault]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_fault_replaces_is_there_and_so_is_its_test(fault):
    place, _, test = FAULTS[fault]
    assert callable(pkgutil.resolve_name(place))
    file, _, name = test.partition("::")
    assert f"\ndef {name.partition('[')[0]}(" in (TESTS / file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_turns_its_test_red(fault):
    result = run_with(fault)
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr[-3000:]
    assert "1 failed" in result.stdout


@pytest.mark.slow
def test_the_right_function_in_its_own_place_leaves_its_test_green():
    result = run_with(*CONTROL)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
