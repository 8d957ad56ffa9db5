"""What the commands do. Imported late, as it needs typer; heavy imports stand in the commands."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
    """Train classifiers with DropMax and the paper's baselines, and compare them on your data."""


DATA = (
    "digits, a CSV or parquet file, a folder of images or with train and test files, "
    "or a data set of the Hugging Face hub."
)
ENCODER = (
    "For texts: a folder or name that SentenceTransformer takes; all-minilm-l6-v2 if not given."
)
Data = Annotated[str, typer.Option(help=DATA)]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Where files and folders of data lie; DROPMAX_DATA if not given."),
]
Backbone = Annotated[
    str | None,
    typer.Option(help="lenet, mnist_cnn, cnn, mlp, identity or hidden; by the shape if not given."),
]
Protocol = Annotated[str, typer.Option(help="paper (the authors') or modern.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training rows; the protocol's.")]
BatchSize = Annotated[int, typer.Option(help="Images or rows a step on each device.")]
TrainPerClass = Annotated[
    int | None, typer.Option(help="Images or rows of each class to train on; all if not given.")
]
ValidationPerClass = Annotated[
    int, typer.Option(help="Images or rows of each class to validate on.")
]
ImageColumn = Annotated[str | None, typer.Option(help="The column of images.")]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="The column of labels; the one of type ClassLabel or named label."),
]
Encoder = Annotated[str | None, typer.Option(help=ENCODER)]
TextColumn = Annotated[
    str | None, typer.Option(help="The column of texts, which makes it a data set of texts.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
METHOD = "plugin, or for heads with masks exact: the mean over all masks."
Method = Annotated[str, typer.Option(help=METHOD)]
RunMethod = Annotated[str | None, typer.Option(help=f"{METHOD} As trained if not given.")]
EXPORT_IMAGES = 1_000
"""On so many test images, at most, an exported file is compared with torch."""
RunPath = Annotated[Path, typer.Argument(help="What train, or compare under runs/, wrote.")]


def _import(files: list[Path] | None) -> list[Path] | None:
    """Import what the option --import names, before a command looks at its heads."""
    from dropmax.heads.registry import import_heads

    for file in files or []:
        import_heads(file)
    return files


OWN_HEADS = (
    "A Python file whose heads dropmax.register_head gives a name; may stand more than once."
)
Import = Annotated[list[Path] | None, typer.Option("--import", callback=_import, help=OWN_HEADS)]


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The directory to write.")],
    head: Annotated[str, typer.Option(help="As in dropmax:kl_weight=0.5.")] = "dropmax",
    backbone: Backbone = None,
    protocol: Protocol = "paper",
    epochs: Epochs = None,
    batch_size: BatchSize = 100,
    train_per_class: TrainPerClass = None,
    validation_per_class: ValidationPerClass = 0,
    seed: Annotated[int, typer.Option(help="Of draw, weights, shuffles and noise.")] = 0,
    data_root: DataRoot = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    encoder: Encoder = None,
    text_column: TextColumn = None,
    method: Method = "plugin",
    accelerator: Annotated[str, typer.Option(help="As lightning takes it.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many.")] = 1,
    strategy: Annotated[str, typer.Option(help="As lightning takes it.")] = "auto",
    precision: Annotated[str, typer.Option(help="As lightning takes it.")] = "32-true",
    imports: Import = None,  # noqa: ARG001
    quiet: Quiet = False,
) -> None:
    """Train one head; a run that was interrupted goes on."""
    from dropmax import training

    config = training.RunConfig(
        data=data,
        head=head,
        backbone=backbone,
        protocol=protocol,
        epochs=epochs,
        batch_size=batch_size,
        train_per_class=train_per_class,
        validation_per_class=validation_per_class,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
        encoder=_encoder(encoder, text_column),
        text_column=text_column,
        method=method,
    )
    run = training.train(
        config,
        out,
        root=data_root,
        progress=not quiet,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        precision=precision,
    )
    _print_metrics(run.metrics["test"])
    typer.echo(f"The run is in {out}.")


@app.command()
def evaluate(
    run: RunPath,
    data_root: DataRoot = None,
    method: RunMethod = None,
    imports: Import = None,  # noqa: ARG001
) -> None:
    """Evaluate a run on the test rows of its data set."""
    from dropmax import training
    from dropmax.metrics import evaluate as evaluated
    from dropmax.training.classifier import method_of
    from dropmax.training.classifier import predict as predicted

    loaded = training.load_run(run)
    test = training.data_of(loaded, data_root).test
    classifier = loaded.classifier()
    method = method or method_of(classifier, loaded.config)
    prediction = predicted(classifier, test.inputs, method=method)
    _print_metrics(evaluated(prediction.log_probs, test.target)._asdict())


@app.command()
def compare(
    data: Data,
    out: Annotated[Path, typer.Option(help="The directory to write.")],
    heads: Annotated[
        str, typer.Option(help="Heads with commas between them, options after a colon.")
    ] = "softmax,softmax:label_smoothing=0.1,dropmax",
    seeds: Annotated[int, typer.Option(help="How many: 0, 1, 2 ...")] = 3,
    jobs: Annotated[int, typer.Option(help="Runs at once.")] = 1,
    threads: Annotated[int | None, typer.Option(help="Of each run; cores / jobs.")] = None,
    backbone: Backbone = None,
    protocol: Protocol = "paper",
    epochs: Epochs = None,
    batch_size: BatchSize = 100,
    train_per_class: TrainPerClass = None,
    validation_per_class: ValidationPerClass = 0,
    data_root: DataRoot = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    encoder: Encoder = None,
    text_column: TextColumn = None,
    method: Method = "plugin",
    imports: Import = None,  # noqa: ARG001
    quiet: Quiet = False,
) -> None:
    """Train heads on the same splits and initial backbones; write lines, a table and figures."""
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
        train_per_class=train_per_class,
        validation_per_class=validation_per_class,
        image_column=image_column,
        label_column=label_column,
        encoder=_encoder(encoder, text_column),
        text_column=text_column,
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
    files: Annotated[list[Path], typer.Argument(help="Images, or CSV or parquet files.")],
    top: Annotated[int, typer.Option(help="How many classes to name.")] = 3,
    method: RunMethod = None,
    imports: Import = None,  # noqa: ARG001
) -> None:
    """Predict images or rows: a JSON line each with the likeliest classes and those retained."""
    from dropmax import training

    loaded = training.load_run(run)
    broken, count = 0, 0
    for line in training.describe_predictions(loaded, files, top, method=method):
        typer.echo(json.dumps(line))
        broken, count = broken + ("error" in line), count + 1
    if broken:
        message = f"predict: {broken} of {count} rows are broken; their lines say why."
        typer.echo(message, err=True)


@app.command()
def export(
    run: RunPath,
    file: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    method: RunMethod = None,
    output: Annotated[str, typer.Option(help="log_probs or probs.")] = "log_probs",
    num_nodes: Annotated[int | None, typer.Option(help="Of exact; 128 if not given.")] = None,
    data_root: DataRoot = None,
    imports: Import = None,  # noqa: ARG001
) -> None:
    """Write a run as an ONNX file that takes images, and compare it with torch on test images."""
    from dropmax import export_onnx, training
    from dropmax.training.classifier import method_of

    loaded = training.load_run(run)
    images = training.data_of(loaded, data_root).test.inputs
    images = images[:: -(-len(images) // EXPORT_IMAGES)]
    classifier = loaded.classifier()
    differences = export_onnx(
        classifier,
        images,
        file,
        method=method or method_of(classifier, loaded.config),
        num_nodes=num_nodes,
        output=output,
        class_names=loaded.class_names,
    )
    for size, difference in differences.items():
        within = f"probabilities within {difference:.1e} of torch's"
        typer.echo(f"batch {size:2}: {within} on {len(images)} images")
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def _encoder(encoder: str | None, text_column: str | None) -> str | None:
    """The encoder asked for, or the packaged one where a column of texts is named."""
    from dropmax.data import PACKAGED

    return PACKAGED if encoder is None and text_column is not None else encoder


def _print_metrics(metrics: dict[str, float]) -> None:
    units = {"error": "%", "nll": "nats", "floored": "%", "ece": "%", "brier": ""}
    for name, unit in units.items():
        typer.echo(f"{name:8} {metrics[name]:8.3f} {unit}".rstrip())
