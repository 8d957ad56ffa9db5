"""Train one run, from where it was left."""

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax._files import holds_something, make_folder, write_whole
from dropmax.analysis.conformal import scores_of_target
from dropmax.calibration import TemperatureScaling, fit_temperature
from dropmax.data import DataSet
from dropmax.data.pictures import Inputs
from dropmax.errors import TrainingError
from dropmax.metrics import reliability
from dropmax.training.card import CARD, card
from dropmax.training.classifier import class_weights, method_of, predict
from dropmax.training.config import CURVE_POINTS, RunConfig
from dropmax.training.defaults import settled
from dropmax.training.pretrained import (
    as_transformers,
    frozen,
    identity_of,
    merge_adapters,
    save_reader,
)
from dropmax.training.rows import (
    check_digest,
    check_settings,
    data_for,
    draw,
    of_classes,
    say_splits,
    splits_and_classifier,
)
from dropmax.training.run import (
    BEST,
    CONFIG,
    CONFORMAL,
    EXAMPLES,
    HISTORY,
    METRICS,
    OF_TRANSFORMERS,
    RESUME,
    SELECTION,
    WEIGHTS,
    Run,
    describe,
    load_run,
    read_description,
    to_json,
    versions,
)
from dropmax.wrap import find_head

CLEARLY = 0.03
"""The validation NLL still falls if it is lower by more than this share than ever before."""
NUM_EXAMPLES = 8
"""A run keeps so many of its inputs."""


def train(
    config: RunConfig,
    out: str | Path,
    *,
    data: DataSet | None = None,
    root: str | Path | None = None,
    progress: bool = True,
    examples: bool = True,
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    precision: str = "32-true",
    threads: int | None = None,
    curve_points: int = CURVE_POINTS,
) -> Run:
    """Train a classifier and write its run; one that was interrupted goes on, a finished one stays.

    Everything is seeded by (seed, epoch): a run that was killed and goes on gives the numbers of
    the uninterrupted one, bit for bit at the same number of threads. Bad settings raise before
    anything is written.

    Args:
        config: The settings.
        out: The directory to write.
        data: The data set that `config` names, where it is loaded already.
        root: Where folders of data lie; the environment variable DROPMAX_DATA if None.
        progress: Whether to say how many rows train, validate and test, and to show a bar over
            epochs with the time left.
        examples: Whether the run keeps up to eight training inputs, so that it can be exported
            without its data.
        accelerator: As `lightning.pytorch.Trainer` takes it, and so the three below.
        devices: How many devices, or which.
        strategy: How they work together.
        precision: Of the arithmetic.
        threads: The number of threads on the CPU; torch's own if None. The last bits of the
            numbers depend on it.
        curve_points: How often the learning curve evaluates all splits, about; at most three times
            where a pretrained network is trained. With fewer than three points you aren't told
            that the validation NLL still falls.

    Returns:
        The finished run.

    Raises:
        ValueError: If a setting or the data do not fit, or `out` is of another experiment.
        OSError: If `out` cannot be written; what was there before still is.
        TrainingError: If a term of the loss stops being finite; it is named.

    Examples:
        >>> import tempfile
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out, progress=False)
        >>> sorted(run.metrics["test"])
        ['brier', 'ece', 'error', 'floored', 'nll']
    """
    if threads is not None:
        _check.integer("threads", threads, low=1)
    _check.integer("curve_points", curve_points, low=1)
    data = of_classes(config, data or data_for(config, root))
    given, config = config, settled(config, data.shape, len(draw(config, data).train))
    splits, classifier = splits_and_classifier(config, data)
    check_settings(config, data, splits)
    folder = Path(out)
    description = describe(given, config, data)
    _check_folder(folder, description, data)
    if (folder / METRICS).is_file():
        _remove_states(folder)
        return load_run(folder)
    resume = _resume_state(folder)
    machine = {
        "accelerator": accelerator,
        "devices": devices,
        "strategy": strategy,
        "precision": precision,
    }
    with with_threads(threads), _without_noise():
        from dropmax.training.module import RunModule

        trainer = _trainer(folder, config, machine, progress=progress)
        if progress and not config.refit and trainer.is_global_zero:
            say_splits(config, data, splits)
        make_folder(folder)
        write_whole(folder / CONFIG, to_json(description))
        if config.pretrained is not None:
            save_reader(config, folder)
        chosen = planned = None
        if config.refit:
            alone = replace(config, refit=False)
            chosen = train(
                alone,
                folder / SELECTION,
                data=data,
                progress=progress,
                examples=False,
                curve_points=curve_points,
                **machine,  # type: ignore[arg-type]
            )
            splits, classifier = splits_and_classifier(config, data, joined=True)
            steps = chosen.metrics["steps"]
            planned = steps // chosen.metrics["epochs"] * config.resolved.epochs
            at_once = config.resolved.batch_size * trainer.world_size * config.accumulate
            length = _length(steps, -(-len(splits.train) // at_once))
            trainer = _trainer(folder, config, machine, progress=progress, length=length)
        weight = class_weights(config, data.class_names, splits.train.target)
        inputs, trained, started = splits.train.inputs, classifier, time.process_time()
        if config.is_frozen:
            trained, splits = frozen(classifier, config, splits, trainer.strategy.root_device)
        module = RunModule(config, trained, splits, weight, planned, curve_points, started)
        try:
            trainer.fit(module, ckpt_path=resume, weights_only=True)
        except SystemExit:  # how lightning ends where it was interrupted
            raise KeyboardInterrupt from None
        except torch.OutOfMemoryError as error:
            few = f"with batches of {config.resolved.batch_size} the device has too little memory"
            ways = "a smaller --batch-size with --accumulate, or --gradient-checkpointing"
            raise TrainingError(f"train: {few}; try {ways}.") from error
        if trainer.is_global_zero:
            kept = inputs if examples else None
            _finish(folder, module, classifier, data, kept, chosen, trainer.global_step)
        trainer.strategy.barrier()
    run = load_run(folder)
    if progress and (falls := still_falls(run)):
        said = f"at last from {falls[0]:.3f} to {falls[1]:.3f} nats"
        print(f"The validation NLL still falls, {said}: train for more epochs.", file=sys.stderr)
    return run


def is_first_process() -> bool:
    """Whether this process is the only one of a run, or the one that speaks for all of them."""
    from lightning.pytorch.utilities import rank_zero_only

    known: Any = rank_zero_only
    return int(known.rank) == 0


def still_falls(run: Run) -> tuple[float, float] | None:
    """The last two validation NLLs of the learning curve if the last is clearly the lowest."""
    curve = [row["curve"] for row in run.history if "curve" in row]
    nlls = [point["validation"]["nll"] for point in curve if "validation" in point]
    if len(nlls) < 3 or nlls[-1] > (1.0 - CLEARLY) * min(nlls[:-1]):
        return None
    return nlls[-2], nlls[-1]


def _length(steps: int, longest: int) -> tuple[int, int]:
    """Epochs of one length, at most the longest, and that length: together so many steps, or fewer
    by less than one an epoch.
    """
    epochs = -(-steps // longest)
    return epochs, steps // epochs


@contextmanager
def with_threads(threads: int | None) -> Iterator[None]:
    """Within, torch works with so many threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _without_noise() -> Iterator[None]:
    """Lightning logs what hardware it found at each start, and warns of loaders without workers."""
    with _check.extra("train"):
        import lightning.pytorch  # noqa: F401

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its import sets another
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        yield


def _trainer(
    folder: Path,
    config: RunConfig,
    machine: Mapping[str, Any],
    *,
    progress: bool,
    length: tuple[int, int] | None = None,
) -> Any:
    """What trains for the epochs of a run; or for so many, each of so many steps.

    Raises:
        ValueError: If the machine has no such devices.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Trainer

    from dropmax.training.callbacks import EpochBar, WholeCheckpoints, early_stop, resume_state

    stops = [] if config.patience is None or length else early_stop(folder, config.patience)
    epochs, steps = length or (config.resolved.epochs, None)
    try:
        return Trainer(
            **machine,
            max_epochs=epochs,
            limit_train_batches=steps and steps * config.accumulate,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.clip,
            callbacks=[*stops, resume_state(folder), *([EpochBar(config)] if progress else [])],
            plugins=[WholeCheckpoints()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
        got = _check.Verbatim(f"{', '.join(map(repr, machine.values()))} ({error})")
        must = "be what lightning has on this machine"
        _check.fail(", ".join(machine), must, got, "leave them out")


def _check_folder(folder: Path, description: dict[str, Any], data: DataSet) -> None:
    """The folder is new, empty, or of this very run."""
    if folder.exists() and not folder.is_dir():
        _check.fail("out", "be a directory", str(folder), "name another")
    found = read_description(folder)
    if found is None and holds_something(folder):
        got = _check.Verbatim(f"{str(folder)!r}, which holds something else")
        _check.fail("out", "be new, empty or a run", got, "name another")
    if found is None:
        return
    if found["config"] == description["config"]:
        check_digest("out", found.get("digest"), data)
    later = {"columns", "record"} if (folder / METRICS).is_file() else {"columns"}
    late = later - set(found)  # the first runs had fewer entries; without a record none goes on
    description = {name: value for name, value in description.items() if name not in late}
    if {**found, "digest": ""} != {**description, "digest": ""}:
        differs = [
            name
            for name, value in {**description["config"], **description}.items()
            if name not in ("config", "digest", "settled")
            and {**found["config"], **found}.get(name) != value
        ]
        other = ", ".join(differs) or "what the protocol auto chose"
        got = _check.Verbatim(f"{str(folder)!r} of another experiment ({other})")
        _check.fail("out", "hold the same experiment", got, "name another directory")


def _resume_state(folder: Path) -> Path | None:
    """The state to go on from, checked to be readable, or None."""
    file = folder / RESUME
    if not file.is_file():
        return None
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader stumble in any way
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        _check.fail("out", "hold a readable state", got, "delete that file to start anew")
    return file


def _finish(
    folder: Path,
    module: Any,
    classifier: nn.Sequential,
    data: DataSet,
    inputs: Inputs | None,
    chosen: Run | None,
    steps: int,
) -> None:
    """Write weights, history, what sets are fitted to and, last, the metrics, by which a run is
    known to be finished.

    What the module trains is the classifier or the end of it. Some of the inputs are kept.
    """
    epochs, best = module.history[-1]["epoch"], folder / BEST
    if best.is_file():
        kept = torch.load(best, map_location="cpu", weights_only=True)
        module.load_state_dict(kept["state_dict"])
        epochs, steps = kept["epoch"] + 1, kept["global_step"]
    if module.config.tune == "lora":
        merge_adapters(classifier)
    method = method_of(module.classifier, module.config)
    held_out, validation = None, module.splits.validation
    if len(validation):
        held_out = predict(module.classifier, validation.inputs, method=method).log_probs
    scaling = None if chosen is None else chosen.scaling
    if held_out is not None and module.config.calibrate:
        scaling = _temperature(held_out, validation.target, module.config.seed)
    state = classifier.state_dict()
    if module.config.pretrained is not None:
        described, state = as_transformers(
            classifier,
            module.config,
            data.class_names,
            method=method,
            scale=1.0 if scaling is None else float(scaling.scale),
        )
        write_whole(folder / OF_TRANSFORMERS, described)
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    write_whole(folder / WEIGHTS, safetensors.torch.save(state, {"format": "pt"}))
    write_whole(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in module.history))
    if inputs is not None:
        evenly = torch.linspace(0, len(inputs) - 1, min(len(inputs), NUM_EXAMPLES)).long()
        write_whole(folder / EXAMPLES, safetensors.torch.save({"inputs": inputs[evenly]}))
    if held_out is not None:
        log_probs = held_out if scaling is None else scaling.log_probs(held_out)
        generator = torch.Generator().manual_seed(module.config.seed)
        scores = scores_of_target(log_probs, validation.target, generator=generator)
        write_whole(folder / CONFORMAL, safetensors.torch.save({"scores": scores.float()}))
    test = module.splits.test
    judged = {}
    if len(test):
        found = predict(module.classifier, test.inputs, method=method, scaling=scaling)
        judged = {"reliability": reliability(found.log_probs, test.target)._asdict()}
    spent = {} if chosen is None else chosen.metrics
    as_trained = scaling is None and not best.is_file()
    metrics = {
        **({} if chosen is None else {"validation": chosen.metrics["validation"]}),
        **(module.history[-1]["curve"] if as_trained else module.evaluate(scaling=scaling)),
        **judged,
        "options": find_head(module.classifier).options(),
        "epochs": epochs,
        "steps": steps,
        **{
            name: round(getattr(module, name) + spent.get(name, 0.0), 3)
            for name in ("seconds", "cpu_seconds")
        },
        "threads": torch.get_num_threads(),
        "digest": data.digest,
        "versions": versions(),
    }
    if module.config.pretrained is not None:
        metrics["network"] = identity_of(module.config)
    if scaling is not None:
        metrics["temperature"] = scaling._asdict()
    if module.config.pretrained is not None:
        sizes = {name: len(split) for name, split in module.splits._asdict().items()}
        of_texts = len(data.shape) == 1
        about = card(module.config, data.class_names, sizes, metrics, of_texts=of_texts)
        write_whole(folder / CARD, about)
    write_whole(folder / METRICS, to_json(metrics))
    _remove_states(folder)


def _remove_states(folder: Path) -> None:
    """Delete what only an unfinished run needs."""
    for file in (RESUME, BEST):
        (folder / file).unlink(missing_ok=True)


def _temperature(log_probs: Tensor, target: Tensor, seed: int) -> TemperatureScaling | None:
    """The temperature of a trained run by its validation rows, if it helps."""
    if len(target) < 2:
        return None
    found = fit_temperature(log_probs, target, generator=torch.Generator().manual_seed(seed))
    return found if found.kept else None
