"""A head over one to four processes gives what it gives on one: values, gradients, steps."""

import json
import os
import subprocess
import sys
import time
from functools import cache

import pytest
import ranks
import torch
from ranks import DTYPES, ENGINES, FUSED, MAIN, SHAPES, TWENTY_STEPS, cases

import dropmax
from dropmax.errors import DropmaxTypeError

RANKS = (1, 2, 3, 4)
LOSS, GRADIENT, STEPS = 1e-12, 1e-11, 1e-10
"""How far values, gradients, and parameters after twenty steps of Adam may be off."""
pytestmark = pytest.mark.xdist_group("parallel ranks")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each process found, of a group of so many."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNTYPED": "1"}
    folder = tmp_path_factory.mktemp("ranks")

    @cache
    def work(world_size):
        """How the processes end, the first time that they are asked for."""
        command = [sys.executable, ranks.__file__]
        workers = [
            subprocess.Popen([*command, str(r), str(world_size), str(folder)], env=environment)
            for r in range(world_size)
        ]
        end = time.monotonic() + 400.0
        while time.monotonic() < end and None in (codes := [w.poll() for w in workers]):
            time.sleep(0.1)
        for worker in workers:
            worker.kill()
        return codes

    def of(world_size):
        if world_size < 3:
            of(3)  # which saves what fewer load
        assert work(world_size) == [0] * world_size
        files = [folder / f"{rank} of {world_size}.json" for rank in range(world_size)]
        return [json.loads(file.read_text()) for file in files]

    return of


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("index", range(len(cases())), ids=lambda i: str(cases()[i]))
def test_values_and_gradients_are_those_of_one_process(index, world_size, results):
    for rank in results(world_size):
        case = rank["cases"][index]
        assert case["values"] < LOSS
        assert case["gradients"] < GRADIENT
        assert case.get("fused values", 0.0) < LOSS
        assert case.get("fused gradients", 0.0) < GRADIENT


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("name", MAIN)
def test_two_all_reduces_forward_and_one_backward(name, world_size, results):
    for rank in results(world_size):
        counts = rank["collectives"][name]
        assert counts["loss"] == [2, 1]
        if name in FUSED:
            assert counts["fused_loss"] == [2 * parts(-(-7 // world_size)), 1]
        assert counts["topk"] == 1


def parts(num_classes):
    """Into so many parts `ranks.in_small_parts` divides the instances."""
    chunk, part = max(1, 12 // num_classes), max(1, 6 // num_classes)
    sizes = [min(chunk, ranks.N - start) for start in range(0, ranks.N, chunk)]
    return sum(-(-size // part) for size in sizes)


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("name", TWENTY_STEPS)
def test_twenty_steps_of_adam(name, world_size, results):
    for rank in results(world_size):
        assert rank["steps"][name] < STEPS


@pytest.mark.parametrize("world_size", RANKS)
def test_masks_do_not_depend_on_the_number_of_processes(world_size, results):
    expected = results(1)[0]["drawn"]
    assert expected["masks"][0] != expected["masks"][1]
    for rank in results(world_size):
        drawn = rank["drawn"]
        assert drawn["masks"] == expected["masks"]
        for kind in ("plain", "fused"):
            assert drawn[kind] == pytest.approx(expected["plain"], rel=LOSS, abs=0.0)


@pytest.mark.parametrize("world_size", RANKS)
def test_activation_checkpointing_draws_the_same_again(world_size, results):
    for rank in results(world_size):
        assert max(rank["repeated"].values()) < LOSS
        assert "preserve_rng_state" in rank["refused"]


@pytest.mark.parametrize("is_given", [False, True], ids=["drawn", "given"])
@pytest.mark.parametrize("name", FUSED)
def test_a_compiled_step(name, is_given, results):
    for rank in results(2):
        assert rank["compiled"][f"{name} {is_given}"] < LOSS


def test_a_compiled_fused_loss(results):
    for rank in results(3):
        assert max(rank["compiled fused"]) < LOSS


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FUSED)
def test_features_of_any_shape(name, shape, dtype, world_size, results):
    for rank in results(world_size):
        most = LOSS if dtype == torch.float64 else 1e-5
        assert rank["shapes"][f"{name} {shape} {dtype}"] < most


@pytest.mark.parametrize("world_size", RANKS)
def test_clipping_by_the_norm_of_all_gradients(world_size, results):
    for rank in results(world_size):
        assert rank["clipped"] < GRADIENT


@pytest.mark.parametrize("world_size", RANKS)
def test_a_head_made_in_parts(world_size, results):
    assert all(rank["from meta"] for rank in results(world_size))


@pytest.mark.parametrize("is_fused", [False, True], ids=["loss", "fused_loss"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FUSED)
def test_instances_over_a_second_dimension(name, engine, is_fused, results):
    for rank in results(4):
        assert rank["engines"][f"{name} {engine} {is_fused}"] < LOSS


def test_masks_differ_where_the_instances_do(results):
    masks, _ = zip(*(rank["drawn on two dimensions"] for rank in results(4)), strict=True)
    assert masks[0] == masks[1]
    assert masks[2] == masks[3]
    assert masks[0] != masks[2]


def test_a_head_outside_of_what_fsdp_gathers_and_a_whole_mesh_are_refused(results):
    for rank in results(4):
        _, (outside, whole_mesh) = rank["drawn on two dimensions"]
        assert "fully_shard" in outside
        assert "one dimension" in whole_mesh


def test_fsdp_rounds_the_features_alone(results):
    for rank in results(4):
        assert rank["in half precision"] < LOSS


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_head_saved_by_three_processes(world_size, results):
    for rank in results(world_size):
        assert rank["loaded"] == {"folder": True, "folder, not spread": True, "file": True}


@pytest.mark.usefixtures("untyped")
def test_what_is_no_head_is_refused():
    with pytest.raises(DropmaxTypeError, match="head"):
        dropmax.ClassParallel()._apply(torch.nn.Linear(2, 2), None)
