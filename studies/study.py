"""A study: the comparisons that answer one question, described by a YAML file."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import PARTIAL, make_folder
from dropmax._progress import progress_bar
from dropmax.compare.lines import RESULTS, append_line, read_lines
from dropmax.compare.runs import changed_options, complete, finished, restore, run_folder
from dropmax.data.corruption import CORRUPTIONS
from dropmax.training import RunConfig, data_for
from dropmax.training.run import METRICS
from studies.calibrated import CALIBRATION, Judging, calibrated, write_calibration
from studies.change import changed_folder, write_changed
from studies.gates import BASELINE, GATES, write_gates
from studies.variants import NAMES, register_variants

USES = ("choice", "report")
"""What runs are for: to choose settings by their validation rows, or to report on test rows."""
FEW_POINTS = 2
"""Of a learning curve: to evaluate ten thousand test rows ten times takes a fifth of a run."""
CHOICE_SEEDS = 100
"""The seeds of runs that choose begin here; those of runs that are reported are below."""


@dataclass(frozen=True)
class Part:
    """Heads compared under the same settings, each with seeds of its own.

    Attributes:
        name: Of the part, and of its folder in that of the study.
        configs: The settings of its runs, seed by seed.
        minutes: How long a run takes, about, on one thread, with what is trained to judge it.
        gates: The head of which `write_gates` says what it retains; none if None.
        tested_on: Corruptions of the test images that the trained runs see, too.
        judging: How `write_calibration` says what a temperature does to its runs; not at all if
            None.
    """

    name: str
    configs: tuple[RunConfig, ...]
    minutes: float
    gates: str | None = None
    tested_on: tuple[str, ...] = ()
    judging: Judging | None = None

    @property
    def minutes_trained(self) -> float:
        """How long a run takes without what judges it."""
        return self.minutes / (1 if self.judging is None else self.judging.networks)

    def minutes_done(self, folder: Path) -> float:
        """How long its runs have taken that have lines in a folder, and what has judged them.

        Raises:
            ValueError: If the folder is of another experiment.
        """
        trained = self.minutes_trained * len(finished(self.configs, folder))
        if self.judging is None:
            return trained
        judged = len(calibrated(self.configs, folder / CALIBRATION, self.judging))
        return trained + (self.minutes - self.minutes_trained) * judged


@dataclass(frozen=True)
class Study:
    """A question and the comparisons that answer it.

    Attributes:
        name: The stem of its file.
        title: The question in a line.
        parts: Its comparisons.
        names: What its pages call its heads, by how they are asked for.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)


def load_study(file: str | Path) -> Study:
    """Read a study.

    The file holds `title` and `parts`: by name a mapping of `RunConfig`'s settings with `minutes`
    and its runs, and perhaps `gates`, `tested_on` and `calibrated`, which is true or the settings
    of a `Judging`. Runs that choose between settings stand under `choice`, with seeds from 100 on
    and validation rows, which decide. Those whose test rows are reported stand under `report`, with
    seeds below 100. Both are lists of `heads` (names) and `seeds` (a list, or a number n for 0 to
    n - 1). A long head has a short name in `names`, which `heads` hold.

    Args:
        file: The YAML file.

    Raises:
        ValueError: If it cannot be read, something in it is missing or unknown, a run stands twice
            in a part, or chooses by what is reported.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studies import load_study
        >>> text = '''
        ... title: Which head is best on digits?
        ... parts:
        ...   few:
        ...     data: digits
        ...     train_per_class: 5
        ...     minutes: 1
        ...     report: [{heads: [softmax, dropmax], seeds: 2}]
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "digits.yaml")
        ...     _ = file.write_text(text)
        ...     study = load_study(file)
        >>> [(config.head, config.seed) for config in study.parts[0].configs]
        [('softmax', 0), ('dropmax', 0), ('softmax', 1), ('dropmax', 1)]
    """
    import yaml

    path = Path(file)
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        got = _check.Verbatim(f"{path} ({' '.join(str(error).split())[:200]})")
        remedy = "check the path and the file"
        _check.fail("file", "be readable YAML", got, remedy, error=_check.kind_of(error))
    title, parts = _fields(described, path.name, "title", "parts", perhaps=("names",))
    heads = described.get("names", {})
    if not isinstance(heads, Mapping):
        _check.fail("names", "be a mapping of short names to heads", heads, "name some", of=Mapping)
    if not isinstance(parts, Mapping) or not parts:
        _check.fail("parts", "name one or more", parts, "describe a comparison", of=Mapping)
    made = tuple(_part(name, part, heads) for name, part in parts.items())
    names = {**NAMES, **{head: short for short, head in heads.items()}}
    return Study(path.stem, title, made, names)


def _part(name: str, described: Any, named: Mapping[str, str]) -> Part:
    (minutes,) = _fields(described, f"part {name}", "minutes", perhaps=None)
    ours = ("minutes", *USES, "gates", "tested_on", "calibrated")
    settings = {k: v for k, v in described.items() if k not in ours}
    runs: list[tuple[int, str]] = []
    for use in USES:
        runs += _runs(f"{use} of {name}", use, described.get(use) or (), named)
    if not runs:
        must, remedy = f"have runs under {' or '.join(USES)}", "list heads and seeds"
        _check.fail(f"part {name}", must, described, remedy)
    if len(set(runs)) < len(runs):
        twice = next(run for run in runs if runs.count(run) > 1)
        got = _check.Verbatim(f"{twice[1]!r} with seed {twice[0]} twice")
        _check.fail(f"runs of {name}", "stand once each", got, "remove one")
    now = {"split": "fraction", "calibrate": True}  # what `from_dict` takes for older lines differs
    configs = [
        RunConfig.from_dict({**now, **settings, "head": head, "seed": seed})
        for seed, head in sorted(runs, key=lambda run: run[0])
    ]
    for config in configs:
        if config.seed >= CHOICE_SEEDS and not _validates(config):
            got = _check.Verbatim("a choice without validation rows")
            _check.fail(f"part {name}", "let validation rows decide", got, "hold some out")
    tested_on = tuple(described.get("tested_on", ()))
    for corruption in tested_on:
        _check.choice(f"tested_on of {name}", corruption, CORRUPTIONS)
    judging = _judging(f"calibrated of {name}", described.get("calibrated", False))
    return Part(name, tuple(configs), float(minutes), described.get("gates"), tested_on, judging)


def _judging(where: str, described: Any) -> Judging | None:
    """How runs are judged: by these settings, by none of them if true, not at all if false."""
    if not isinstance(described, Mapping):
        _check.boolean(where, described)
        return Judging() if described else None
    for setting in described:
        _check.choice(where, setting, [one.name for one in fields(Judging)])
    return Judging(**described)


def _runs(where: str, use: str, groups: Any, named: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """The seeds and heads of the runs for one use."""
    if not isinstance(groups, Sequence):
        _check.fail(where, "be a list", groups, "list heads and seeds", of=Sequence)
    for group in groups:
        heads, seeds = _fields(group, where, "heads", "seeds")
        for seed in range(seeds) if isinstance(seeds, int) else seeds:
            if (seed >= CHOICE_SEEDS) != (use == "choice"):
                must = f"be {'from' if use == 'choice' else 'below'} {CHOICE_SEEDS}"
                _check.fail(f"seeds in {where}", must, seed, "the other use has them")
            yield from ((seed, named.get(head, head)) for head in heads)


def _validates(config: RunConfig) -> bool:
    """Whether some rows validate, as far as the settings say."""
    drawn = config.split == "fraction" and config.validation_fraction != 0.0
    return bool(config.validation_per_class) or drawn


def _fields(
    described: Any, where: str, *names: str, perhaps: Sequence[str] | None = ()
) -> list[Any]:
    """The values of a mapping that has these names, and perhaps others; any where None."""
    must = f"be a mapping with {' and '.join(names)}"
    if not isinstance(described, Mapping) or any(name not in described for name in names):
        _check.fail(where, must, described, "add what is missing")
    if perhaps is not None:
        for name in described:
            _check.choice(f"a name in {where}", name, (*names, *perhaps))
    return [described[name] for name in names]


def run_study(
    study: Study,
    out: str | Path,
    *,
    root: str | Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    progress: bool = True,
) -> None:
    """Run what a study lacks; one that was interrupted goes on.

    A run whose line another part has already, in any study, is not made again.

    Args:
        study: The study.
        out: The directory of all studies: the lines of a part are in
            `out/STUDY/PART/results.jsonl`.
        root: Where folders of data lie; the environment variable DROPMAX_DATA if None.
        jobs: How many runs at once.
        threads: Threads of each run; the machine's cores divided by `jobs` if None.
        progress: Whether to show a bar with the time left.

    Raises:
        ValueError: If a setting or the data do not fit, or a folder is of another experiment.
        TrainingError: If a run breaks down.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from dropmax.compare import read_lines
        >>> from studies import Part, Study, run_study
        >>> from dropmax.training import RunConfig
        >>> config = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> study = Study("digits", "Does it run?", (Part("few", (config,), minutes=1.0),))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run_study(study, out, progress=False)
        ...     len(read_lines(Path(out, "digits", "few", "results.jsonl")))
        1
    """
    register_variants(config.head for part in study.parts for config in part.configs)
    folders = [Path(out, study.name, part.name) for part in study.parts]
    for part, folder in zip(study.parts, folders, strict=True):
        _borrow(part, folder, Path(out), root)
    total = sum(part.minutes * len(part.configs) for part in study.parts)
    done = sum(part.minutes_done(folder) for part, folder in zip(study.parts, folders, strict=True))
    with progress_bar(total, "minutes of runs", done=done, shown=progress) as advance:
        for part, folder in zip(study.parts, folders, strict=True):
            complete(
                part.configs,
                folder,
                data=partial(data_for, part.configs[0], root),
                jobs=jobs,
                threads=threads,
                options={"examples": False, "curve_points": FEW_POINTS},
                advance=partial(advance, part.minutes_trained),
            )
            judged = partial(advance, part.minutes - part.minutes_trained)
            _look(part, folder, root, jobs=jobs, threads=threads, advance=judged)


def _borrow(part: Part, folder: Path, out: Path, root: str | Path | None) -> None:
    """Take lines that other parts have already; no run is made, or judged in one way, twice.

    Lines of heads that would get other options now stay where they are.
    """
    judging, data = part.judging, cache(lambda: data_for(part.configs[0], root))
    ours = finished(part.configs, folder)
    judged = ours if judging is None else calibrated(part.configs, folder / CALIBRATION, judging)
    if len(part.configs) == len(ours) == len(judged):
        return
    theirs = [*_others(RESULTS, part.configs, folder, out)]
    for source, config, line in theirs:
        if config in ours or "tested_on" in line or any(changed_options([line], data())):
            continue
        append_line(make_folder(folder) / RESULTS, line)
        ours[config] = line
        if judging is not None:
            _copy_run(run_folder(source, config), run_folder(folder, config))
    for source, config, line in _others(CALIBRATION, part.configs, folder, out):
        if judging is None or config in judged or line.get("judging") != judging.described():
            continue
        if (source, config, ours.get(config)) in theirs:
            append_line(folder / CALIBRATION, line)
            judged[config] = line


def _others(
    name: str, configs: Iterable[RunConfig], folder: Path, out: Path
) -> Iterator[tuple[Path, RunConfig, dict[str, Any]]]:
    """The folders of other parts that have lines of these runs in a file, with the lines."""
    wanted = set(configs)
    for file in sorted(out.glob(f"*/*/{name}")):
        for line in read_lines(file) if file.parent != folder else ():
            if (config := RunConfig.from_dict(line["config"])) in wanted:
                yield file.parent, config, line


def _copy_run(source: Path, target: Path) -> None:
    """Copy a finished run, whole or not at all, where there is none yet."""
    if (source / METRICS).is_file() and not target.exists():
        partial = target.with_name(target.name + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(target)


def _look(
    part: Part,
    folder: Path,
    root: str | Path | None,
    *,
    jobs: int,
    threads: int | None,
    advance: Callable[[], None],
) -> None:
    """Write what a part asks for beside its lines, where it is not there yet."""
    data = cache(lambda: data_for(part.configs[0], root))
    again = partial(restore, out=folder, data=data, jobs=jobs, threads=threads)
    if part.gates and not (folder / GATES).is_file():
        pairs = [config for config in part.configs if config.head in (part.gates, BASELINE)]
        by_seed = Counter(config.seed for config in pairs)
        seeds = [seed for seed, heads in by_seed.items() if heads == 2]
        again([config for config in pairs if config.seed in seeds])
        write_gates(folder, data(), part.gates, seeds=seeds)
    if part.judging is not None:
        there = calibrated(part.configs, folder / CALIBRATION, part.judging)
        missing = [config for config in part.configs if config not in there]
        again(missing)
        at_once: Any = {"jobs": jobs, "threads": threads, "advance": advance}
        if missing:
            write_calibration(folder, part.configs, data(), part.judging, **at_once)
    for corruption in part.tested_on:
        there = finished(part.configs, changed_folder(folder, corruption))
        missing = [config for config in part.configs if config not in there]
        if missing:
            again(missing)
            write_changed(folder, missing, data(), corruption)


def progress_of(study: Study, out: str | Path) -> tuple[int, int, float]:
    """How many runs are finished, of how many, and the core-hours that are left, about.

    Raises:
        ValueError: If a folder of the study is of another experiment.
    """
    folders = {part: Path(out, study.name, part.name) for part in study.parts}
    total = sum(len(part.configs) for part in study.parts)
    done = sum(len(finished(part.configs, folder)) for part, folder in folders.items())
    left = (
        part.minutes * len(part.configs) - part.minutes_done(folder)
        for part, folder in folders.items()
    )
    return done, total, sum(left) / 60.0
