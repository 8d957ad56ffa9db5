"""The reports of finished runs: of one, and of the comparison that it is a part of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dropmax.compare import run_folder
from dropmax.compare.summary import BASELINE
from dropmax.data import DataSet, LabeledData, Splits
from dropmax.data.record import told
from dropmax.report.figures import FIGURES
from dropmax.report.files import Written, write_rows
from dropmax.report.instances import check_data
from dropmax.report.names import NAMES
from dropmax.report.page import Compared, figure_uri
from dropmax.report.rows import TEST, VALIDATION, Rows
from dropmax.report.sentences import verdict
from dropmax.report.tables import table_rows
from dropmax.training import HeldOut, Run, RunConfig, draw, load_run
from dropmax.training.classifier import predict, retain_probs_of

REPORT = "report.html"
SHOWN = 12
"""Of the rows that one of two heads alone is right on."""


def write_report(
    run: Run, data: DataSet, path: str | Path | None = None, *, held_out: HeldOut | None = None
) -> Written | None:
    """Write the report of a run, on its validation and test rows, and the spreadsheets beside it.

    Args:
        run: A finished run.
        data: The data set it was trained on.
        path: The HTML file; report.html in the folder of the run if None.
        held_out: What `dropmax.training.held_out` says of all rows, to find suspect labels among
            them; those of validation and test rows if None.

    Returns:
        `Written`; None where neither a validation nor a test row is there.

    Raises:
        ValueError: If the run does not fit the data.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.report import write_report
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out, progress=False)
        ...     write_report(run, load_data("digits")).file.name
        'report.html'
    """
    check_data(run, data)
    splits = draw(run.config, data)
    rows = rows_of(run, splits)
    suspects = None if held_out is None else _judged_by_folds(run, held_out)
    judged_by = ""
    if rows is None and suspects is not None:
        rows = suspects = replace(suspects, splits=("",) * len(suspects))
        judged_by = "cross-validation: each by a classifier that wasn't trained on it"
    if rows is None:
        return None
    trained_on = len(splits.train) + run.config.refit * len(splits.validation)
    about = {
        "data": Path(run.config.data).name,
        "head": run.config.head,
        "network": run.settled.backbone or "",
        "trained on": f"{trained_on:,} {rows.noun} in {run.metrics['seconds']:.0f} seconds",
        "judged by": judged_by,
        "seed": str(run.config.seed),
    }
    title = f"{run.config.head} on {Path(run.config.data).name}"
    file = run.path / REPORT if path is None else Path(path)
    about = {name: said for name, said in about.items() if said}
    return write_rows(file, rows, title=title, about=about, suspects=suspects)


def _judged_by_folds(run: Run, held_out: HeldOut) -> Rows:
    """The rows of a cross-validation."""
    return Rows(
        held_out.log_probs,
        held_out.data.target,
        run.class_names,
        held_out.data.ids,
        held_out.splits,
        **_seen(run, held_out.data),
        keys=held_out.data.keys,
        retain_probs=held_out.retain_probs,
    )


def write_comparison(
    lines: Sequence[Mapping[str, Any]],
    folder: str | Path,
    data: DataSet,
    path: str | Path | None = None,
) -> Written | None:
    """Write the report of a comparison, and the spreadsheets beside it.

    What two heads say of the same rows is shown of the first seed: of the first DropMax, if there
    is one, and of softmax; else of the first two heads. The rest of the page is of the first of
    them. With one head it is the report of its first run.

    Args:
        lines: As `dropmax.compare.compare` returns them.
        folder: That of the comparison, with its runs.
        data: The data set they were trained on.
        path: The HTML file; report.html in the folder if None.

    Returns:
        `Written`; None where neither a validation nor a test row is there.

    Raises:
        ValueError: If there are no lines, or a run is missing or does not fit the data.
    """
    configs = [RunConfig.from_dict(line["config"]) for line in lines]
    first = [config for config in configs if config.seed == configs[0].seed]
    shown = _side_by_side(first)
    if len(shown) < 2:
        run = load_run(run_folder(folder, shown[0]))
        return write_report(run, data, Path(folder, REPORT) if path is None else path)
    runs = [load_run(run_folder(folder, config)) for config in shown]
    for run in runs:
        check_data(run, data)
    splits = draw(runs[0].config, data)
    rows, other = (rows_of(run, splits) for run in runs)
    if rows is None or other is None:
        return None
    mine, its = (NAMES.get(run.config.head, run.config.head) for run in runs)
    mine_alone = ~rows.wrong & other.wrong & rows.judged
    its_alone = rows.wrong & ~other.wrong & rows.judged
    counts = int(mine_alone.sum()), int(its_alone.sum())
    here = other.most_surprising(mine_alone, SHOWN)  # to the head that is wrong on them
    there = rows.most_surprising(its_alone, SHOWN)
    said = {
        n: (its, runs[1].class_names[int(other.answer[n])], float(other.probability[n]))
        for n in [*here, *there]
    }
    compared = Compared(
        verdict(lines),
        table_rows(lines, NAMES),
        {name: figure_uri(made(lines, NAMES)) for name, made in FIGURES.items()},
        (mine, its),
        counts,
        mcnemar(*counts),
        here,
        there,
        said,
    )
    name = Path(runs[0].config.data).name
    about = {"data": name, "shown below": f"{runs[0].config.head}, seed {runs[0].config.seed}"}
    file = Path(folder, REPORT) if path is None else Path(path)
    title = f"{len({config.head for config in configs})} heads on {name}"
    return write_rows(file, rows, title=title, about=about, comparison=compared)


def _side_by_side(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Two heads: the first DropMax and softmax, and in the place of one that is missing another."""
    gated = [one for one in configs if one.head.partition(":")[0] == "dropmax"][:1]
    baseline = [one for one in configs if one.head == BASELINE]
    return list(dict.fromkeys([*gated, *baseline, *configs]))[:2]


def mcnemar(first: int, second: int) -> float:
    """The p-value of counts of rows that one classifier alone is right on, and another alone.

    It is the exact one, by the binomial distribution of equal chances.

    Source:
        McNemar 1947, "Note on the Sampling Error of the Difference Between Correlated Proportions".

    Examples:
        >>> from dropmax.report.runs import mcnemar
        >>> mcnemar(1, 9)
        0.021484375
    """
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def rows_of(run: Run, splits: Splits) -> Rows | None:
    """The rows that a run was not trained on, as it sees them; None if there are none."""
    named = {TEST: splits.test}
    if not run.config.refit:  # which trains on the validation rows, too
        named = {VALIDATION: splits.validation, **named}
    judged = [(name, split) for name, split in named.items() if len(split)]
    if not judged:
        return None
    classifier, parts = run.judging([split for _, split in judged])
    method, scaling = run.method_and_scaling(classifier)
    found = [predict(classifier, part.inputs, method=method) for part in parts]
    log_probs = torch.cat([one.log_probs for one in found]).float()
    whole = judged[0][1]
    for _, split in judged[1:]:
        whole = whole.joined(split)
    return Rows(
        log_probs if scaling is None else scaling.log_probs(log_probs),
        whole.target,
        run.class_names,
        whole.ids,
        tuple(name for name, split in judged for _ in range(len(split))),
        **_seen(run, whole),
        keys=whole.keys,
        retain_probs=retain_probs_of(found),
        before=None if scaling is None else log_probs,
    )


def _seen(run: Run, data: LabeledData) -> dict[str, Any]:
    """Pictures, texts, or the cells of the columns that a table's rows were learned from."""
    if data.inputs.ndim == 4:
        return {"pictures": data.inputs}
    if run.record is None:
        return {"columns": ("text",), "cells": [(text,) for text in data.texts]}
    kinds = run.record.kinds
    cells = [
        [told(kind, cell) for kind, cell in zip(kinds.values(), json.loads(text), strict=True)]
        for text in data.texts
    ]
    return {"columns": tuple(kinds), "cells": cells}
