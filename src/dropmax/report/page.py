"""The report, one HTML file: what a classifier confuses, and how far it can be trusted."""

import base64
import hashlib
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

from dropmax import _check
from dropmax.analysis import Confusion
from dropmax.metrics import error_interval, evaluate
from dropmax.report import trust
from dropmax.report.classes import FEW, ClassCount, matrix_classes
from dropmax.report.dark import following
from dropmax.report.rows import SURE, TAGS, UNSURE, VALIDATION, Rows
from dropmax.report.thumbnails import Thumbnails

PAIRS, OF_PAIR = 100, 6
"""How many pairs of confused classes are listed, and how many rows of each are shown."""
MATRIX = 20
"""Classes of the matrix; the rest is one more, "(other)"."""
TELLING, RIGHT, SUSPECTS = 200, 20, 50
"""Rows that are shown: the most telling, some that are right, and some whose label is suspect."""
LISTED = 1_000
"""Classes that are listed, those with the most errors where there are more."""
REPLACED = "\N{REPLACEMENT CHARACTER}"
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""What turns the direction of texts; names stand in an element that keeps them to themselves."""
SHARES = (100, 95, 90, 80, 70, 50)
"""Of the rows that are answered, in percent, as a table shows them."""


class Compared(NamedTuple):
    """A comparison, and what two of its heads say of the same rows.

    Attributes:
        verdict: Sentences.
        table: Cells, the heading first.
        figures: Data URIs by their names.
        names: Of the two heads.
        counts: How many rows the first alone is right on, and how many the second.
        p_value: Of as different counts where both heads are equally good (McNemar, exact).
        here: Rows that the first head alone is right on.
        there: Rows that the second head alone is right on.
        others: By such a row the second head's name, its answer and the probability of it.
    """

    verdict: Sequence[str]
    table: Sequence[Sequence[str]]
    figures: Mapping[str, str]
    names: tuple[str, str]
    counts: tuple[int, int]
    p_value: float
    here: Sequence[int]
    there: Sequence[int]
    others: Mapping[int, tuple[str, str, float]]


class Likely(NamedTuple):
    """A class for a row: its name, its probability, and whether it is the label."""

    name: str
    probability: float
    is_label: bool


class Shown(NamedTuple):
    """A row as the page shows it; `given` is the probability of its label."""

    number: int
    id: str
    split: str
    text: str
    has_picture: bool
    label: str
    answer: str
    is_wrong: bool
    likely: Sequence[Likely]
    given: float
    retained: Sequence[Likely] | None
    num_retained: int
    tags: Sequence[str]


def page(
    rows: Rows,
    pairs: Sequence[Confusion],
    classes: Sequence[ClassCount],
    *,
    title: str,
    about: Mapping[str, str],
    comparison: Compared | None = None,
    suspects: Rows | None = None,
) -> str:
    """The HTML of a report.

    Names, ids and texts are people's: the template escapes each.

    Args:
        rows: At least one.
        pairs: Of `dropmax.analysis.confusions`.
        classes: Of `dropmax.report.classes.class_counts`.
        title: What was trained on what.
        about: More of it, by its name.
        comparison: That the classifier is a part of; None if of none.
        suspects: The rows among which suspect labels are looked for, each judged by a classifier
            that was trained without it; `rows` if None.
    """
    with _check.extra("train"):
        import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dropmax.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["readable"] = readable
    style, script = (_own(environment, file) for file in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    shown = _Rows(rows, Thumbnails())
    listed = sorted(classes, key=lambda one: (-one.wrong, one.number))[:LISTED]
    others = shown if suspects is None else _Rows(suspects, shown.thumbnails, first=len(rows))
    suspected = others.rows.suspects()
    judging = rows.judging()
    curve, sizes = trust.answered(judging), trust.set_sizes(rows)
    # those that have their pictures first, while there is room
    suspect = others.some(suspected[:SUSPECTS])
    telling = shown.some([*rows.telling(TELLING), *rows.right(RIGHT)])
    return environment.get_template("page.html").render(
        title=title,
        about=about,
        noun=rows.noun,
        style=style,
        script=script,
        script_hash=digest,
        names=rows.class_names,
        summary=_summary(judging),
        counts={name: rows.splits.count(name) for name in dict.fromkeys(rows.splits) if name},
        pairs=[(pair, shown.some(_of_pair(rows, pair))) for pair in pairs[:PAIRS]],
        pair_of={tuple(sorted((pair.first, pair.second))) for pair in pairs[:PAIRS]},
        num_pairs=len(pairs),
        matrix=_matrix(judging, pairs),
        classes=listed,
        few=FEW,
        suspects=suspect,
        num_suspects=len(suspected),
        is_cross_validated=suspects is not None,
        is_fitted_here=judging.before is not None and judging.splits[0] == VALIDATION,
        telling=telling,
        tags={name: int(has.sum()) for name, has in rows.tags.items()},
        sure=SURE,
        unsure=UNSURE,
        curve=curve,
        table=[curve[trust.SHARES.index(share)] for share in SHARES],
        sizes=sizes,
        figures={
            "reliability": figure_uri(trust.reliability_figure(judging)),
            "coverage": figure_uri(trust.coverage_figure(curve, rows.noun)),
            **({"sizes": figure_uri(trust.sizes_figure(sizes))} if sizes else {}),
        },
        comparison=comparison,
        versus=comparison and [shown.some(comparison.here), shown.some(comparison.there)],
        thumbnails=shown.thumbnails,
    )


def _own(environment: Any, file: str) -> Any:
    """A file beside the template, which is not escaped."""
    from markupsafe import Markup

    return Markup(environment.loader.get_source(environment, file)[0])


def readable(text: str, longest: int) -> str:
    """A text of people's as a page can hold it: cut, and without what is no character there."""
    cut = text[:longest] + "…" * (len(text) > longest)
    return "".join(REPLACED if _is_odd(c) else c for c in cut)


def _is_odd(character: str) -> bool:
    """Whether it is a control character, half of another, or turns the direction of texts."""
    if character in "\n\t\r":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in TURNING


class _Rows:
    """Rows as the page shows them, each described once; numbered from `first` on."""

    def __init__(self, rows: Rows, thumbnails: Thumbnails, *, first: int = 0) -> None:
        self.rows, self.thumbnails, self._first = rows, thumbnails, first
        self._one = cache(self._described)

    def some(self, which: Iterable[int]) -> list[Shown]:
        """Some rows, in that order."""
        return [self._one(n) for n in dict.fromkeys(which)]

    def _described(self, n: int) -> Shown:
        rows, names = self.rows, self.rows.class_names
        label = int(rows.target[n])
        probs, classes = (found[n].tolist() for found in rows.likeliest)
        kept, retained = rows.retained, None
        if kept is not None:
            surest = zip(kept.classes[n].tolist(), kept.probabilities[n].tolist(), strict=True)
            of_row = list(surest)[: int(kept.counts[n])]
            retained = [Likely(names[k], p, k == label) for k, p in of_row]
        return Shown(
            self._first + n,
            rows.ids[n],
            rows.splits[n],
            rows.told(n),
            self._has_picture(n),
            names[label],
            names[int(rows.answer[n])],
            bool(rows.wrong[n]),
            [Likely(names[k], p, k == label) for k, p in zip(classes, probs, strict=True)],
            float((-rows.surprise[n]).exp()),
            retained,
            0 if kept is None else int(kept.counts[n]),
            [name for name in TAGS if rows.tags[name][n]],
        )

    def _has_picture(self, n: int) -> bool:
        pictures = self.rows.pictures
        return pictures is not None and self.thumbnails.add(self._first + n, pictures[n])


def _summary(rows: Rows) -> dict[str, Any]:
    """The error with its interval, beside guesses: a class by chance, and the most frequent one."""
    metrics = evaluate(rows.log_probs, rows.target)
    low, high = error_interval(metrics.error, len(rows))
    return {
        "count": len(rows),
        "split": rows.splits[0],
        "wrong": int(rows.wrong.sum()),
        "metrics": metrics,
        "low": low,
        "high": high,
        "chance": 100.0 * (1.0 - 1.0 / len(rows.class_names)),
        "most_frequent": 100.0 * (1.0 - int(rows.target.bincount().max()) / len(rows)),
    }


def _of_pair(rows: Rows, pair: Confusion) -> list[int]:
    """The most surprising rows of a pair."""
    ways = ((pair.first, pair.second), (pair.second, pair.first))
    of_pair = torch.zeros_like(rows.judged)
    for label, answer in ways:
        of_pair |= (rows.target == label) & (rows.answer == answer)
    return rows.most_surprising(of_pair & rows.judged, OF_PAIR)


class Matrix(NamedTuple):
    """Counts by label and answer `[M, M]`; the last may be all other classes, among which none."""

    names: Sequence[str]
    classes: Sequence[int]
    counts: Sequence[Sequence[int | None]]
    most: int


def _matrix(rows: Rows, pairs: Sequence[Confusion]) -> Matrix:
    """The most confused classes, by similarity, and the rest in one."""
    chosen = matrix_classes(pairs, MATRIX)
    if len(rows.class_names) <= MATRIX:
        chosen += [k for k in range(len(rows.class_names)) if k not in chosen]
    place = torch.full((len(rows.class_names),), len(chosen))
    place[torch.tensor(chosen, dtype=torch.int64)] = torch.arange(len(chosen))
    has_others = len(chosen) < len(rows.class_names)
    side = len(chosen) + has_others
    cells = place[rows.target] * side + place[rows.answer]
    counts = cells.bincount(minlength=side * side).view(side, side)
    names = [rows.class_names[k] for k in chosen] + ["(other)"] * has_others
    shown: list[list[int | None]] = counts.tolist()
    if has_others:
        shown[-1][-1] = None  # right or wrong, of any of them
    apart = counts.clone().fill_diagonal_(0)
    if has_others:
        apart[-1] = apart[:, -1] = 0
    return Matrix(names, [*chosen, *[-1] * has_others], shown, int(apart.max()))


def figure_uri(figure: Any) -> str:
    """A figure as a data URI, light or dark as the page."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.hashsalt": "dropmax", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = base64.b64encode(following(stream.getvalue()).encode()).decode("ascii")
    return f"data:image/svg+xml;base64,{text}"
