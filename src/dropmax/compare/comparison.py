"""Many heads and seeds on one data set: a JSON line for each run, resumed if interrupted."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._progress import progress_bar
from dropmax.compare.runs import check_lines, complete, finished
from dropmax.data import DataSet
from dropmax.training import RunConfig, data_for
from dropmax.training.rows import say_splits


@dataclass(frozen=True)
class Comparison:
    """Which heads are compared, with which seeds.

    For each seed all heads get the same splits and the same initial backbone.

    Attributes:
        base: The settings that all runs share; its head and seed are replaced.
        heads: The heads, as `dropmax.make_head` takes them.
        seeds: The seeds; each head is trained once with each.

    Raises:
        ValueError: If there is no head or no seed, or one of them stands twice.
    """

    base: RunConfig
    heads: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.base.test_fraction == 0.0:
            _check.fail("test_fraction", "be above 0 to compare heads", 0.0, "leave it out")
        for argument in ("heads", "seeds"):
            values = getattr(self, argument)
            if not values or len(set(values)) < len(values):
                must = "hold at least one, each once"
                _check.fail(argument, must, values, "list each once")

    def configs(self) -> list[RunConfig]:
        """The settings of every run, seed by seed."""
        return [
            replace(self.base, head=head, seed=seed) for seed in self.seeds for head in self.heads
        ]


def compare(
    comparison: Comparison,
    out: str | Path,
    *,
    data: DataSet | None = None,
    root: str | Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    progress: bool = True,
    examples: bool = True,
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    precision: str = "32-true",
) -> list[dict[str, Any]]:
    """Train every head with every seed. If it was interrupted, call it again to resume it.

    Args:
        comparison: What is compared.
        out: The directory to write: `results.jsonl`, with a line for each run, and the runs.
        data: The data set that `comparison` names, if you have loaded it already.
        root: The folder that holds the data; the environment variable DROPMAX_DATA if None.
        jobs: The number of runs at once.
        threads: The number of threads of each run; the machine's cores divided by `jobs` if None.
            The last bits of the numbers depend on it, so every line holds it.
        progress: Whether to say how many rows train, validate and test, and to show a progress bar
            over the runs.
        examples: Whether each run keeps up to eight training inputs, so that it can be exported
            without its data.
        accelerator: What each run trains on, as `train` takes it, and so the three below.
        devices: How many devices, or which.
        strategy: How they work together.
        precision: Of the arithmetic.

    Returns:
        The result lines, seed by seed.

    Raises:
        ValueError: If a setting or the data do not fit, or `out` is of another experiment. Nothing
            is written then.
        TrainingError: If a run breaks down.

    Examples:
        >>> import tempfile
        >>> from dropmax.compare import Comparison, compare
        >>> from dropmax.training import RunConfig
        >>> base = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> comparison = Comparison(base, heads=("softmax", "dropmax"), seeds=(0,))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     lines = compare(comparison, out, progress=False)
        >>> [line["config"]["head"] for line in lines]
        ['softmax', 'dropmax']
    """
    configs = comparison.configs()
    done = finished(configs, out)
    if data is not None and len(done) == len(configs):
        check_lines(done.values(), data)
    with progress_bar(len(configs), "runs", done=len(done), shown=progress) as advance:
        return complete(
            configs,
            out,
            data=lambda: data or data_for(comparison.base, root),
            jobs=jobs,
            threads=threads,
            options={
                "examples": examples,
                "accelerator": accelerator,
                "devices": devices,
                "strategy": strategy,
                "precision": precision,
            },
            advance=advance,
            begin=lambda loaded: say_splits(configs[0], loaded) if progress else None,
        )


def split_heads(text: str) -> tuple[str, ...]:
    """The heads in a text with commas between them. A part `option=value` belongs to its head.

    Examples:
        >>> from dropmax.compare import split_heads
        >>> split_heads("softmax,dropmax:kl_weight=0.5,aux_weight=2.0,attention")
        ('softmax', 'dropmax:kl_weight=0.5,aux_weight=2.0', 'attention')
    """
    heads: list[str] = []
    for part in text.split(","):
        if "=" in part and ":" not in part and heads:
            heads[-1] += "," + part.strip()
        else:
            heads.append(part.strip())
    return tuple(heads)
