"""What the commands do. Imported late, as it needs typer; heavy imports stand in the commands."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import dropmax
from dropmax.cli import options

__all__ = ["compare", "evaluate", "export", "predict", "report", "train"]

app = typer.Typer(no_args_is_help=True, add_completion=False)


def _print_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"dropmax {dropmax.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of every error.")
    ] = False,
) -> None:
    """Train classifiers with DropMax or softmax, and compare them on your own data.

    To see what it does: dropmax compare --data digits --out RESULTS
    """


HELD_OUT, CROSS_VALIDATE = "held-out", "cross-validate"
"""Where suspect labels are looked for."""
CONFUSED = 3
"""So many pairs of confused classes are named in the end."""
EXPORT_IMAGES = 1_000
"""A file of a run that keeps no examples is compared with torch on at most so many rows."""


@app.command()
def train(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="The folder to write the run to.")],
    head: Annotated[
        str,
        typer.Option(help="The head to train, options after a colon: dropmax:kl_weight=0.5."),
    ] = "dropmax",
    backbone: options.Backbone = None,
    tune: options.Tune = None,
    protocol: options.Protocol = "auto",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = 1,
    lr: options.Lr = None,
    backbone_lr: options.BackboneLr = None,
    weight_decay: options.WeightDecay = None,
    schedule: options.Schedule = None,
    warmup: options.Warmup = None,
    clip: options.Clip = None,
    patience: options.Patience = None,
    refit: options.Refit = False,
    no_calibrate: options.NoCalibrate = False,
    class_weight: options.ClassWeight = None,
    train_per_class: options.TrainPerClass = None,
    validation_per_class: options.ValidationPerClass = 0,
    test: options.Test = None,
    split: options.Split = "fraction",
    test_fraction: options.TestFraction = None,
    validation_fraction: options.ValidationFraction = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Decides all that is random: drawn rows, initial weights, shuffles and masks.",
            rich_help_panel=options.TRAINING_PANEL,
        ),
    ] = 0,
    data_root: options.DataRoot = None,
    image_column: options.ImageColumn = None,
    size: options.Size = None,
    label_column: options.LabelColumn = None,
    encoder: options.Encoder = None,
    text_column: options.TextColumn = None,
    drop: options.Drop = None,
    keep: options.Keep = None,
    method: options.Method = "plugin",
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    strategy: options.Strategy = "auto",
    precision: options.Precision = "32-true",
    threads: options.Threads = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    no_examples: options.NoExamples = False,
    no_report: options.NoReport = False,
    imports: options.Import = None,
    quiet: options.Quiet = False,
) -> None:
    """Train one classifier, and write a report of it. If it was interrupted, the same command
    resumes it.
    """
    from dropmax import report as reports
    from dropmax import training
    from dropmax.training.fit import is_first_process

    config = _run_config(locals())
    data_set = training.data_for(config, data_root)
    run = training.train(
        config,
        out,
        data=data_set,
        progress=not quiet,
        examples=not no_examples,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=precision,
        threads=threads,
    )
    if not is_first_process():
        return
    if run.scaling is not None and not quiet:
        fitted = f"a temperature of {1.0 / run.scaling.scale:.2f}, fitted on validation rows"
        typer.echo(f"Predictions have {fitted}.", err=True)
    if "test" in run.metrics:
        _print_metrics(run.metrics["test"])
    typer.echo(f"The run is in {out}.")
    if not no_report and (written := _written(lambda: reports.write_report(run, data_set))):
        for pair in written.confused[:CONFUSED]:
            both = (run.class_names[pair.first], run.class_names[pair.second])
            label, answer = (" ".join(name.split()) for name in both)
            counts = f"{pair.forth}; the other way: {pair.back}"
            typer.echo(f"{label} taken for {answer}: {counts}")
        _say_report(written.file)
    typer.echo(f"To use it: dropmax predict {out} FILES")


@app.command()
def evaluate(
    run: options.RunPath,
    data: Annotated[
        str | None,
        typer.Option(help="Other labeled data to judge the run on, as train takes them."),
    ] = None,
    label_column: options.LabelColumn = None,
    data_root: options.DataRoot = None,
    method: options.RunMethod = None,
    imports: options.Import = None,  # noqa: ARG001
) -> None:
    """Measure errors, likelihood and calibration of a run on test rows: of its data, or others."""
    from dropmax import _check, training
    from dropmax.metrics import evaluate as evaluated
    from dropmax.training.classifier import predict as predicted

    loaded = training.load_run(run)
    if data is None:
        test = training.data_of(loaded, data_root).test
    else:
        test = training.labeled_for(loaded, data, data_root, label_column=label_column)
    if not len(test):
        must = "have test rows"
        _check.fail("run", must, _check.Verbatim("none"), "name others by --data")
    classifier = loaded.classifier()
    method, scaling = loaded.method_and_scaling(classifier, method)
    prediction = predicted(classifier, test.inputs, method=method, scaling=scaling)
    of = f"test rows of {loaded.config.data}" if data is None else f"rows of {data}"
    typer.echo(f"Judged on {len(test):,} {of}.", err=True)
    _print_metrics(evaluated(prediction.log_probs, test.target)._asdict())


@app.command()
def compare(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="The folder to write the results to.")],
    heads: Annotated[
        str,
        typer.Option(help="The heads, with commas between them and options after a colon."),
    ] = "softmax,softmax:label_smoothing=0.1,dropmax",
    seeds: Annotated[
        int, typer.Option(help="The number of seeds: each head is trained once for each.")
    ] = 3,
    jobs: Annotated[
        int, typer.Option(help="The number of runs at once.", rich_help_panel=options.MACHINE_PANEL)
    ] = 1,
    threads: options.Threads = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    strategy: options.Strategy = "auto",
    precision: options.Precision = "32-true",
    backbone: options.Backbone = None,
    tune: options.Tune = None,
    protocol: options.Protocol = "auto",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = 1,
    lr: options.Lr = None,
    backbone_lr: options.BackboneLr = None,
    weight_decay: options.WeightDecay = None,
    schedule: options.Schedule = None,
    warmup: options.Warmup = None,
    clip: options.Clip = None,
    patience: options.Patience = None,
    refit: options.Refit = False,
    no_calibrate: options.NoCalibrate = False,
    class_weight: options.ClassWeight = None,
    train_per_class: options.TrainPerClass = None,
    validation_per_class: options.ValidationPerClass = 0,
    test: options.Test = None,
    split: options.Split = "fraction",
    test_fraction: options.TestFraction = None,
    validation_fraction: options.ValidationFraction = None,
    data_root: options.DataRoot = None,
    image_column: options.ImageColumn = None,
    size: options.Size = None,
    label_column: options.LabelColumn = None,
    encoder: options.Encoder = None,
    text_column: options.TextColumn = None,
    drop: options.Drop = None,
    keep: options.Keep = None,
    method: options.Method = "plugin",
    no_examples: options.NoExamples = False,
    no_report: options.NoReport = False,
    imports: options.Import = None,
    quiet: options.Quiet = False,
) -> None:
    """Train several heads with several seeds, and write a table, figures and a report.

    For each seed all heads get the same rows and the same initial network. If it was interrupted,
    the same command resumes it.
    """
    from dropmax import _check, report
    from dropmax._files import write_whole
    from dropmax.cli import screen
    from dropmax.compare import RESULTS, Comparison, run_folder, split_heads
    from dropmax.compare import compare as compared
    from dropmax.report.names import NAMES
    from dropmax.report.tables import table_rows
    from dropmax.training import data_for, load_run

    _check.integer("--seeds", seeds, low=1)
    names = split_heads(heads)
    base = _run_config(locals(), head=names[0])
    data_set = data_for(base, data_root)
    lines = compared(
        Comparison(base, names, tuple(range(seeds))),
        out,
        data=data_set,
        jobs=jobs,
        threads=threads,
        progress=not quiet,
        examples=not no_examples,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=precision,
    )
    write_whole(out / "table.md", report.table(lines))
    figures = report.draw(lines, out)
    gated = [name for name in names if name.partition(":")[0] == "dropmax"][:1]
    shown = gated + ["softmax"] * (bool(gated) and "softmax" in names)
    for seed in range(seeds):
        folders = [run_folder(out, replace(base, head=name, seed=seed)) for name in shown]
        if folders and all(folder.is_dir() for folder in folders):
            run, *baseline = map(load_run, folders)
            figures += report.draw_gate(
                run, data_set, out, baseline=baseline[0] if baseline else None
            )
            break
    screen.print_table(table_rows(lines, NAMES))
    for sentence in report.verdict(lines):
        typer.echo(sentence)
    typer.echo(f"Lines: {out / RESULTS}")
    for figure in figures:
        if figure.suffix == ".png":
            typer.echo(f"Figure: {figure}")
    if not no_report:
        written = _written(lambda: report.write_comparison(lines, out, data_set))
        _say_report(written and written.file)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="A run of train, or the results of compare.", metavar="RUN")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The HTML file to write. If not given: report.html in the folder."),
    ] = None,
    suspects: Annotated[
        str,
        typer.Option(
            help="Where suspect labels are looked for: held-out, among validation and test rows; "
            "or cross-validate, among all rows, which trains five times."
        ),
    ] = HELD_OUT,
    data_root: options.DataRoot = None,
    threads: options.Threads = None,
    imports: options.Import = None,  # noqa: ARG001
    quiet: options.Quiet = False,
) -> None:
    """Write what a run confuses, which labels are suspect, and how far you can trust it.

    Spreadsheets are written beside the page. The data of the run must still be there.
    """
    from dropmax import _check, training
    from dropmax import report as reports
    from dropmax.compare import RESULTS, read_lines, run_folder
    from dropmax.report.files import check_page

    _check.choice("--suspects", suspects, (HELD_OUT, CROSS_VALIDATE))
    if out is not None:
        check_page("--out", out)
    lines = read_lines(folder / RESULTS)
    if lines and suspects != HELD_OUT:
        must = f"be {HELD_OUT} for a comparison"
        _check.fail("--suspects", must, suspects, "name one of its runs in place of it")
    one = folder
    if lines:
        one = run_folder(folder, training.RunConfig.from_dict(lines[0]["config"]))
    run = training.load_run(one)
    data_set = training.data_of(run, data_root)
    if lines:
        written = reports.write_comparison(lines, folder, data_set, out)
    else:
        judged = None
        if suspects == CROSS_VALIDATE:
            judged = training.held_out(run, data_set, progress=not quiet, threads=threads)
        written = reports.write_report(run, data_set, out, held_out=judged)
    if written is None:
        remedy = f"train with some, or look among all rows by --suspects {CROSS_VALIDATE}"
        _check.fail("folder", "have validation or test rows", str(folder), remedy)
    _say_report(written.file)


@app.command()
def predict(
    run: options.RunPath,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Images or folders of them; CSV, TSV or parquet files; or - for the standard "
            "input: CSV, or one text a line.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text to predict. May be given more than once."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write, which ends in .csv, .tsv, .jsonl or .json. If not given: "
            "lines of JSON are printed."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="The number of likeliest classes to name.")] = 3,
    threshold: Annotated[
        float,
        typer.Option(help="Leave the answer empty where its probability is less, such as 0.9."),
    ] = 0.0,
    sets: Annotated[
        float | None,
        typer.Option(
            help="Give sets of classes, too, that hold the right one with this probability, "
            "such as 0.9."
        ),
    ] = None,
    method: options.RunMethod = None,
    data_root: options.DataRoot = None,
    imports: options.Import = None,  # noqa: ARG001
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")] = False,
) -> None:
    """Predict images, rows or texts.

    Each has a line with its answer, the likeliest classes and those that the gate keeps.
    """
    from dropmax import _check, training
    from dropmax._progress import progress_bar
    from dropmax.cli import lines
    from dropmax.training.predictions import predictions_of

    given = files or []
    if not given and not text:
        nothing = _check.Verbatim("none")
        _check.fail("files", "be named where there is no --text", nothing, "name some, or -")
    if out is not None:
        lines.check_file(out, given, run)
    loaded = training.load_run(run)
    found = predictions_of(
        loaded,
        given,
        top,
        texts=text or [],
        threshold=threshold,
        level=sets,
        method=method,
        root=data_root,
    )
    broken = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal broken
        with progress_bar(found.total, "rows", shown=out is not None and not quiet) as advance:
            for line in found.lines:
                broken += "error" in line
                advance()
                yield line

    if out is None:
        for line in counted():
            typer.echo(json.dumps(line))
    else:
        fields = lines.fields_of(
            min(top, len(loaded.class_names)),
            with_rows=len(loaded.shape) == 1,
            with_sets=sets is not None,
        )
        lines.write_lines(out, counted(), found.columns, fields)
        typer.echo(f"The predictions are in {out}.")
    if broken:
        message = f"predict: {broken} of {found.total} can't be predicted; their lines say why."
        typer.echo(message, err=True)
        raise typer.Exit(2 if broken == found.total else 0)


@app.command()
def export(
    run: options.RunPath,
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    method: options.RunMethod = None,
    output: Annotated[
        str, typer.Option(help="What the file returns: log_probs or probs.")
    ] = "log_probs",
    num_nodes: Annotated[
        int | None,
        typer.Option(help="The number of nodes for the method exact. If not given: 128."),
    ] = None,
    data_root: options.DataRoot = None,
    imports: options.Import = None,  # noqa: ARG001
) -> None:
    """Write a run as an ONNX file, and check that it predicts as torch does.

    It's checked on the rows that the run keeps. With --data-root, or if it keeps none, it's checked
    on its data, which must be those of the run.
    """
    from dropmax import _check, export_onnx, training

    if file.is_file() and file.suffix.lower() != ".onnx":
        _check.fail("file", "be new or end in .onnx", str(file), "name another")

    loaded = training.load_run(run)
    images = loaded.examples() if data_root is None else None
    kept = images is not None
    if images is None:
        inputs = training.data_of(loaded, data_root).train.inputs
        images = inputs[:: -(-len(inputs) // EXPORT_IMAGES)]
    classifier = loaded.classifier()
    method, scaling = loaded.method_and_scaling(classifier, method)
    differences = export_onnx(
        classifier,
        images,
        file,
        method=method,
        num_nodes=num_nodes,
        output=output,
        class_names=loaded.class_names,
        recipe=loaded.recipe(classifier),
        scaling=scaling,
    )
    for size, difference in differences.items():
        within = f"probabilities within {difference:.1e} of torch's"
        typer.echo(f"batch {size:2}: {within} on {len(images)} rows")
    if kept:
        of_run = "These are rows that the run keeps"
        typer.echo(f"{of_run}. Whether its data changed is checked with --data-root.", err=True)
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def _run_config(given: Mapping[str, Any], **others: Any) -> Any:
    """The settings of a run, of the options of a command that are named as they are."""
    from dropmax.data import PACKAGED
    from dropmax.training import RunConfig
    from dropmax.training.config import PRETRAINED

    settings = {field.name: given.get(field.name) for field in fields(RunConfig)}
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if value is not None
    }
    if "text_column" in settings and not (given["backbone"] or "").startswith(PRETRAINED):
        settings.setdefault("encoder", PACKAGED)
    calibrate = not given["no_calibrate"]
    return RunConfig(**{**settings, "calibrate": calibrate, **others})


def _written(write: Callable[[], Any]) -> Any:
    """A report at the end of what is finished by then: why there is none is said, and no more."""
    from dropmax.errors import DropmaxError

    try:
        return write()
    except DropmaxError as error:
        typer.echo(f"There is no report. {error}", err=True)
        return None


def _say_report(file: Path | None) -> None:
    if file is not None:
        typer.echo(f"Report: {file}")


def _print_metrics(metrics: dict[str, float]) -> None:
    units = {"error": "%", "nll": "nats", "floored": "%", "ece": "%", "brier": ""}
    for name, unit in units.items():
        typer.echo(f"{name:8} {metrics[name]:8.3f} {unit}".rstrip())
