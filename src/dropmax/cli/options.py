"""The options that commands share, as typer takes them, with the words of their help."""

from pathlib import Path
from typing import Annotated

import typer

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
    "layer) or identity (none). Or hf: and a folder of Transformers or a name of the hub, for a "
    "pretrained network. If not given: one that fits the data."
)
Backbone = Annotated[str | None, typer.Option(help=BACKBONE, rich_help_panel=TRAINING_PANEL)]
TUNE = (
    "What of a pretrained network is trained: none, by which its features are computed once; all; "
    "or lora, small matrices beside the layers of a network of texts. If not given: none."
)
Tune = Annotated[str | None, typer.Option(help=TUNE, rich_help_panel=TRAINING_PANEL)]
Accumulate = Annotated[
    int,
    typer.Option(
        help="The number of batches that make a training step.", rich_help_panel=TRAINING_PANEL
    ),
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing",
        help="Train a pretrained network with less memory, and more slowly.",
        rich_help_panel=MACHINE_PANEL,
    ),
]
PROTOCOL = (
    "How to train: auto, which suits the data; paper, as the authors did; or modern, with one "
    "cycle of the learning rate, and with flipped and cropped images if they are colored."
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
    int | None,
    typer.Option(
        help="The number of images or rows in a batch, on each device. If not given: as "
        "the protocol says.",
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
        help="The learning rate of the network before the head. If not given: as --lr, "
        "and a tenth of it for a pretrained one.",
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
NoReport = Annotated[
    bool,
    typer.Option(
        "--no-report",
        help="Write no report.html and no spreadsheets beside it.",
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
