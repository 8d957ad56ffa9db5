"""The CSV files beside a report: rows, pairs of confused classes, classes, and suspect labels."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from dropmax import _check
from dropmax._files import write_whole
from dropmax.analysis import Confusion
from dropmax.data.cells import JOINT, guarded
from dropmax.report.classes import ClassCount
from dropmax.report.rows import Rows

PREDICTIONS, CONFUSIONS = "predictions.csv", "confusions.csv"
CLASSES, SUSPECTS = "classes.csv", "suspects.csv"
HEADINGS = {
    PREDICTIONS: "id,split,",
    CONFUSIONS: "label,answer,rows",
    CLASSES: "class,rows,wrong,",
    SUSPECTS: "id,split,",
}
"""How the first lines of ours begin."""

Line = Sequence[str]


def check_spreadsheets(page: Path) -> None:
    """Where one of the files is to be, there is none but those of the page that is there."""
    for name, heading in HEADINGS.items():
        file = page.parent / name
        if not file.is_file():
            continue
        with file.open(encoding="utf-8", errors="replace") as stream:
            if not page.is_file() or not stream.readline().startswith(heading):
                must = f"have no other {name} beside it"
                _check.fail("path", must, str(file), "name a file in another folder")


def write_spreadsheets(
    folder: Path,
    rows: Rows,
    pairs: Sequence[Confusion],
    classes: Sequence[ClassCount],
    suspects: Rows,
) -> None:
    """Write the four files, each whole or not at all."""
    for name, lines in (
        (PREDICTIONS, _predictions(rows)),
        (CONFUSIONS, _confusions(rows, pairs)),
        (CLASSES, _classes(rows, classes)),
        (SUSPECTS, _suspects(suspects)),
    ):
        stream = io.StringIO()
        csv.writer(stream).writerows([guarded(cell) for cell in line] for line in lines)
        write_whole(folder / name, stream.getvalue().encode("utf-8", "replace"))


def _predictions(rows: Rows) -> Iterator[Line]:
    """Every row: what it is, its label, the answer, and what else is likely."""
    names, kept = rows.class_names, rows.retained
    probs, classes = (found.tolist() for found in rows.likeliest)
    places = range(2, len(classes[0]) + 1)
    others = [f"top{place}{of}" for place in places for of in ("", "_probability")]
    of_gate = [] if kept is None else ["retained", "num_retained"]
    yield [
        "id",
        "split",
        *rows.columns,
        "label",
        "answer",
        "probability",
        *others,
        *of_gate,
        "tags",
    ]
    counts, surest = ([], []) if kept is None else (kept.counts.tolist(), kept.classes.tolist())
    labels, tags = rows.target.tolist(), {name: has.tolist() for name, has in rows.tags.items()}
    for n, label in enumerate(labels):
        yield [
            *(rows.ids[n], rows.splits[n], *_cells(rows, n), names[label]),
            *(
                cell
                for k, p in zip(classes[n], probs[n], strict=True)
                for cell in (names[k], f"{p:.6f}")
            ),
            *([] if kept is None else [_joined(names, surest[n][: counts[n]]), str(counts[n])]),
            JOINT.join(name for name, has in tags.items() if has[n]),
        ]


def _joined(names: Sequence[str], classes: Sequence[int]) -> str:
    """Each name guarded by itself, as a spreadsheet may take them apart."""
    return JOINT.join(guarded(names[k]) for k in classes)


def _confusions(rows: Rows, pairs: Sequence[Confusion]) -> Iterator[Line]:
    yield ["label", "answer", "rows"]
    for pair in pairs:
        for label, answer, count in (
            (pair.first, pair.second, pair.forth),
            (pair.second, pair.first, pair.back),
        ):
            if count:
                yield [rows.class_names[label], rows.class_names[answer], str(count)]


def _classes(rows: Rows, classes: Sequence[ClassCount]) -> Iterator[Line]:
    yield ["class", "rows", "wrong", "precision %", "recall %", "confused with"]
    for one in classes:
        shares = ["" if one is None else f"{one:.2f}" for one in (one.precision, one.recall)]
        rival = "" if one.rival is None else rows.class_names[one.rival]
        yield [rows.class_names[one.number], str(one.rows), str(one.wrong), *shares, rival]


def _suspects(rows: Rows) -> Iterator[Line]:
    """For whoever relabels: the label that is given, the likely one, and how sure that is."""
    ours = ["given label", "likely label", "probability", "probability of the given"]
    yield ["id", "split", *rows.columns, *ours]
    for n in rows.suspects():
        given, likely = int(rows.target[n]), int(rows.answer[n])
        yield [
            *(rows.ids[n], rows.splits[n], *_cells(rows, n)),
            *(rows.class_names[given], rows.class_names[likely]),
            f"{float(rows.probability[n]):.6f}",
            f"{float((-rows.surprise[n]).exp()):.6f}",
        ]


def _cells(rows: Rows, n: int) -> Sequence[str]:
    return rows.cells[n] if rows.cells else ()
