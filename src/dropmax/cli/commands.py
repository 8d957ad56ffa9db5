"""What the commands do. Imported late, as it needs typer; heavy imports stand in the commands."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import dropmax

__all__ = ["compare", "evaluate", "export", "predict", "train"]

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


DATA_PANEL, TRAINING_PANEL, MACHINE_PANEL = "Data", "Training", "Machine"
DATA = (
    "What to learn from: digits, which come with scikit-learn; a CSV, TSV or parquet file; a "
    "folder of images, or with train and test files; or the name of a data set of the Hugging "
    "Face hub."
)
ENCODER = (
    "The model that turns texts into numbers: a name or folder of Sentence Transformers. "
    "If not given: all-minilm-l6-v2."
)
Data = Annotated[str, typer.Option(help=DATA)]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="The folder that holds the data. If not given: environment variable DROPMAX_DATA.",
        rich_help_panel=DATA_PANEL,
    ),
]
BACKBONE = (
    "The network before the head: lenet, mnist_cnn, cnn, average_cnn, mlp, hidden (one dense "
    "layer) or identity (none). If not given: one that fits the shape of the data."
)
Backbone = Annotated[str | None, typer.Option(help=BACKBONE, rich_help_panel=TRAINING_PANEL)]
PROTOCOL = (
    "How to train: paper, as the authors did, or modern, with one cycle of the learning rate "
    "and with flipped and cropped images if they are colored."
)
Protocol = Annotated[str, typer.Option(help=PROTOCOL, rich_help_panel=TRAINING_PANEL)]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="How often to go over the training rows. If not given: as the protocol says.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        help="The number of images or rows in a training step, on each device.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        help="The highest learning rate. If not given: as the protocol says.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
BackboneLr = Annotated[
    float | None,
    typer.Option(
        help="The learning rate of the network before the head. If not given: as --lr.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
WeightDecay = Annotated[
    float | None,
    typer.Option(
        help="How much weights are drawn to 0. If not given: as the protocol says.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
SCHEDULE = (
    "How the learning rate changes: constant, linear, cosine, one_cycle or thirds. If not given: "
    "as the protocol says."
)
Schedule = Annotated[str | None, typer.Option(help=SCHEDULE, rich_help_panel=TRAINING_PANEL)]
Warmup = Annotated[
    float | None,
    typer.Option(
        help="In which share of the steps the learning rate rises to its highest, such as 0.1.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Clip = Annotated[
    float | None,
    typer.Option(
        help="The norm to which gradients are clipped, such as 1. If not given: they aren't.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        help="Stop if the NLL of the validation rows hasn't fallen for so many epochs, and keep "
        "the best one. If not given: all epochs are trained.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Refit = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="Train once more, on training and validation rows, for as many steps as were best.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
NoCalibrate = Annotated[
    bool,
    typer.Option(
        "--no-calibrate",
        help="Fit no temperature. Otherwise one is fitted on the validation rows, and kept if it "
        "helps.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Accelerator = Annotated[
    str,
    typer.Option(
        help="What to train on, as Lightning names it: cpu, gpu or auto.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
Devices = Annotated[
    int, typer.Option(help="The number of devices of a run.", rich_help_panel=MACHINE_PANEL)
]
Strategy = Annotated[
    str,
    typer.Option(
        help="How devices train together, as Lightning names it: ddp or auto.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="The precision, as Lightning names it, such as bf16-mixed.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="The number of threads of a run. If not given: the cores, shared by the jobs.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
TrainPerClass = Annotated[
    int | None,
    typer.Option(
        help="Train on so many images or rows of each class. If not given: on all.",
        rich_help_panel=DATA_PANEL,
    ),
]
ValidationPerClass = Annotated[
    int,
    typer.Option(
        help="Keep so many images or rows of each class for validation.",
        rich_help_panel=DATA_PANEL,
    ),
]
ClassWeight = Annotated[
    list[str] | None,
    typer.Option(
        help="How much rows of a class count: balanced, so that all classes count the same, or "
        "NAME=WEIGHT, which may be given more than once.",
        rich_help_panel=TRAINING_PANEL,
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        help="Labeled data to test on. If not given: the test split of the data, or drawn rows.",
        rich_help_panel=DATA_PANEL,
    ),
]
SPLIT = (
    "How test rows are drawn if the files keep none: fraction, or half. With half, half of each "
    "class is for testing and none for validation."
)
Split = Annotated[str, typer.Option(help=SPLIT, rich_help_panel=DATA_PANEL)]
TestFraction = Annotated[
    float | None,
    typer.Option(
        help="Which fraction of each class is for testing if the files keep none. If not given: "
        "0.2. At 0 all rows train, and nothing judges the run.",
        rich_help_panel=DATA_PANEL,
    ),
]
ValidationFraction = Annotated[
    float | None,
    typer.Option(
        help="Which fraction of the training rows of each class is for validation. If not given: "
        "0.15, and none of a class of fewer than five rows. It is 0 if --validation-per-class, "
        "--split half or a split of the files says what validates.",
        rich_help_panel=DATA_PANEL,
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(
        help="The column with the images. If not given: the one of that type.",
        rich_help_panel=DATA_PANEL,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="The size of images: the shorter side is resized to so many pixels, and the center "
        "taken. If not given: as they are if all have one size up to 64, else 64.",
        rich_help_panel=DATA_PANEL,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="The column with the labels. If not given: the ClassLabel, or the one named label.",
        rich_help_panel=DATA_PANEL,
    ),
]
Encoder = Annotated[str | None, typer.Option(help=ENCODER, rich_help_panel=DATA_PANEL)]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="The column with the texts. Name it if your data are texts.",
        rich_help_panel=DATA_PANEL,
    ),
]
NoExamples = Annotated[
    bool,
    typer.Option(
        "--no-examples",
        help="Keep no rows in the run. Otherwise it keeps eight, so that export needs no data.",
        rich_help_panel=DATA_PANEL,
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        help="A column of the table to leave out. May be given more than once.",
        rich_help_panel=DATA_PANEL,
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        help="A column of the table to learn from, even if it seems to number the rows. May be "
        "given more than once.",
        rich_help_panel=DATA_PANEL,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Show no progress bar, and not how many rows train and test."),
]
METHOD = "How to predict: plugin, or exact, which is the average over all masks of a DropMax head."
Method = Annotated[str, typer.Option(help=METHOD)]
RunMethod = Annotated[str | None, typer.Option(help=f"{METHOD} If not given: as it was trained.")]
RUN = "The folder of a run: what train wrote, or a folder in runs/ of what compare wrote."
RunPath = Annotated[Path, typer.Argument(help=RUN)]
EXPORT_IMAGES = 1_000
"""A file of a run that keeps no examples is compared with torch on at most so many rows."""


def _import(files: list[Path] | None) -> list[Path] | None:
    """Import the files of the option --import, before a command looks for its heads."""
    from dropmax.heads.registry import import_heads

    for file in files or []:
        import_heads(file)
    return files


OWN_HEADS = (
    "A Python file with heads of your own, which it registers by dropmax.register_head. "
    "May be given more than once."
)
Import = Annotated[list[Path] | None, typer.Option("--import", callback=_import, help=OWN_HEADS)]


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder to write the run to.")],
    head: Annotated[
        str,
        typer.Option(help="The head to train, options after a colon: dropmax:kl_weight=0.5."),
    ] = "dropmax",
    backbone: Backbone = None,
    protocol: Protocol = "paper",
    epochs: Epochs = None,
    batch_size: BatchSize = 100,
    lr: Lr = None,
    backbone_lr: BackboneLr = None,
    weight_decay: WeightDecay = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    clip: Clip = None,
    patience: Patience = None,
    refit: Refit = False,
    no_calibrate: NoCalibrate = False,
    class_weight: ClassWeight = None,
    train_per_class: TrainPerClass = None,
    validation_per_class: ValidationPerClass = 0,
    test: Test = None,
    split: Split = "fraction",
    test_fraction: TestFraction = None,
    validation_fraction: ValidationFraction = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Decides all that is random: drawn rows, initial weights, shuffles and masks.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = 0,
    data_root: DataRoot = None,
    image_column: ImageColumn = None,
    size: Size = None,
    label_column: LabelColumn = None,
    encoder: Encoder = None,
    text_column: TextColumn = None,
    drop: Drop = None,
    keep: Keep = None,
    method: Method = "plugin",
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    strategy: Strategy = "auto",
    precision: Precision = "32-true",
    threads: Threads = None,
    no_examples: NoExamples = False,
    imports: Import = None,  # noqa: ARG001
    quiet: Quiet = False,
) -> None:
    """Train one classifier. If it was interrupted, the same command resumes it."""
    from dropmax import training

    config = training.RunConfig(
        data=data,
        head=head,
        backbone=backbone,
        protocol=protocol,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        backbone_lr=backbone_lr,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        patience=patience,
        refit=refit,
        calibrate=not no_calibrate,
        class_weight=tuple(class_weight or ()),
        train_per_class=train_per_class,
        validation_per_class=validation_per_class,
        test=test,
        split=split,
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
        image_column=image_column,
        size=size,
        label_column=label_column,
        encoder=_encoder(encoder, text_column),
        text_column=text_column,
        drop=tuple(drop or ()),
        keep=tuple(keep or ()),
        method=method,
    )
    run = training.train(
        config,
        out,
        root=data_root,
        progress=not quiet,
        examples=not no_examples,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=precision,
        threads=threads,
    )
    if run.scaling is not None and not quiet:
        fitted = f"a temperature of {1.0 / run.scaling.scale:.2f}, fitted on validation rows"
        typer.echo(f"Predictions have {fitted}.", err=True)
    if "test" in run.metrics:
        _print_metrics(run.metrics["test"])
    typer.echo(f"The run is in {out}.")


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[
        str | None,
        typer.Option(help="Other labeled data to judge the run on, as train takes them."),
    ] = None,
    label_column: LabelColumn = None,
    data_root: DataRoot = None,
    method: RunMethod = None,
    imports: Import = None,  # noqa: ARG001
) -> None:
    """Measure errors, likelihood and calibration of a run on test rows: of its data, or others."""
    from dropmax import _check, training
    from dropmax.metrics import evaluate as evaluated
    from dropmax.training.classifier import predict as predicted

    loaded = training.load_run(run)
    _say_places(loaded, *(("data", "test", "encoder") if data is None else ("encoder",)))
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
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder to write the results to.")],
    heads: Annotated[
        str,
        typer.Option(help="The heads, with commas between them and options after a colon."),
    ] = "softmax,softmax:label_smoothing=0.1,dropmax",
    seeds: Annotated[
        int, typer.Option(help="The number of seeds: each head is trained once for each.")
    ] = 3,
    jobs: Annotated[
        int, typer.Option(help="The number of runs at once.", rich_help_panel=MACHINE_PANEL)
    ] = 1,
    threads: Threads = None,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    strategy: Strategy = "auto",
    precision: Precision = "32-true",
    backbone: Backbone = None,
    protocol: Protocol = "paper",
    epochs: Epochs = None,
    batch_size: BatchSize = 100,
    lr: Lr = None,
    backbone_lr: BackboneLr = None,
    weight_decay: WeightDecay = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    clip: Clip = None,
    patience: Patience = None,
    refit: Refit = False,
    no_calibrate: NoCalibrate = False,
    class_weight: ClassWeight = None,
    train_per_class: TrainPerClass = None,
    validation_per_class: ValidationPerClass = 0,
    test: Test = None,
    split: Split = "fraction",
    test_fraction: TestFraction = None,
    validation_fraction: ValidationFraction = None,
    data_root: DataRoot = None,
    image_column: ImageColumn = None,
    size: Size = None,
    label_column: LabelColumn = None,
    encoder: Encoder = None,
    text_column: TextColumn = None,
    drop: Drop = None,
    keep: Keep = None,
    method: Method = "plugin",
    no_examples: NoExamples = False,
    imports: Import = None,  # noqa: ARG001
    quiet: Quiet = False,
) -> None:
    """Train several heads with several seeds, and write a table and figures.

    For each seed all heads get the same rows and the same initial network. If it was interrupted,
    the same command resumes it.
    """
    from dropmax import _check, report
    from dropmax._files import write_whole
    from dropmax.compare import RESULTS, Comparison, run_folder, split_heads
    from dropmax.compare import compare as compared
    from dropmax.training import RunConfig, data_for, load_run

    _check.integer("--seeds", seeds, low=1)
    names = split_heads(heads)
    base = RunConfig(
        data=data,
        head=names[0],
        backbone=backbone,
        protocol=protocol,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        backbone_lr=backbone_lr,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        patience=patience,
        refit=refit,
        calibrate=not no_calibrate,
        class_weight=tuple(class_weight or ()),
        train_per_class=train_per_class,
        validation_per_class=validation_per_class,
        test=test,
        split=split,
        test_fraction=test_fraction,
        validation_fraction=validation_fraction,
        image_column=image_column,
        size=size,
        label_column=label_column,
        encoder=_encoder(encoder, text_column),
        text_column=text_column,
        drop=tuple(drop or ()),
        keep=tuple(keep or ()),
        method=method,
    )
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
    table = report.table(lines)
    write_whole(out / "table.md", table)
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
    typer.echo(table)
    typer.echo(f"Lines: {out / RESULTS}")
    for figure in figures:
        if figure.suffix == ".png":
            typer.echo(f"Figure: {figure}")


@app.command()
def predict(
    run: RunPath,
    files: Annotated[
        list[Path], typer.Argument(help="Images or folders of them; CSV, TSV or parquet files.")
    ],
    top: Annotated[int, typer.Option(help="The number of likeliest classes to name.")] = 3,
    method: RunMethod = None,
    imports: Import = None,  # noqa: ARG001
) -> None:
    """Predict images or rows.

    For each it prints a line of JSON, with the likeliest classes and those that the gate keeps.
    """
    from dropmax import training

    loaded = training.load_run(run)
    _say_places(loaded, "encoder")
    broken, count = 0, 0
    for line in training.describe_predictions(loaded, files, top, method=method):
        typer.echo(json.dumps(line))
        broken, count = broken + ("error" in line), count + 1
    if broken:
        message = f"predict: {broken} of {count} rows are broken; their lines say why."
        typer.echo(message, err=True)
        raise typer.Exit(2 if broken == count else 0)


@app.command()
def export(
    run: RunPath,
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    method: RunMethod = None,
    output: Annotated[
        str, typer.Option(help="What the file returns: log_probs or probs.")
    ] = "log_probs",
    num_nodes: Annotated[
        int | None,
        typer.Option(help="The number of nodes for the method exact. If not given: 128."),
    ] = None,
    data_root: DataRoot = None,
    imports: Import = None,  # noqa: ARG001
) -> None:
    """Write a run as an ONNX file, and check that it predicts as torch does."""
    from dropmax import _check, export_onnx, training

    if file.is_file() and file.suffix.lower() != ".onnx":
        _check.fail("file", "be new or end in .onnx", str(file), "name another")

    loaded = training.load_run(run)
    images = loaded.examples()
    if images is None:
        _say_places(loaded, "data", "test", "encoder")
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
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def _encoder(encoder: str | None, text_column: str | None) -> str | None:
    """The encoder asked for, or the packaged one where a column of texts is named."""
    from dropmax.data import PACKAGED

    return PACKAGED if encoder is None and text_column is not None else encoder


def _say_places(run: Any, *settings: str) -> None:
    """Say what a run has read that lies outside its folder: it may come from a stranger."""
    from dropmax.data import PACKAGED

    for name in settings:
        place = getattr(run.config, name)
        if place not in (None, "digits", PACKAGED):
            typer.echo(f"The run in {run.path} names its {name}: reading {place!r}.", err=True)


def _print_metrics(metrics: dict[str, float]) -> None:
    units = {"error": "%", "nll": "nats", "floored": "%", "ece": "%", "brier": ""}
    for name, unit in units.items():
        typer.echo(f"{name:8} {metrics[name]:8.3f} {unit}".rstrip())
