"""Labeled rows as a classifier sees them: its answers, and the tags by which they are looked up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dropmax.data.pictures import Inputs
from dropmax.training.predictions import RETAINED

TOP = 3
"""How many of the likeliest classes are named."""
SURE, UNSURE = 0.9, 0.5
"""An answer is sure from this probability on, and unsure below this."""
NAMED = 10
"""How many of the classes that a gate keeps are named, at most."""
VALIDATION, TEST = "validation", "test"
"""What a row may be for."""
PER_TAG = 50
"""Of each tag, at least so many rows are shown where there are."""


class Retained(NamedTuple):
    """What a gate keeps of N rows.

    Attributes:
        counts: How many classes `[N]`.
        classes: The indices of those it keeps most surely, also of some that it drops `[N, n]`.
        probabilities: Their retain probabilities `[N, n]`.
    """

    counts: Tensor
    classes: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Rows:
    """N labeled rows and what a classifier of K classes says of them.

    Attributes:
        log_probs: `[N, K]`.
        target: Their labels `[N]`.
        class_names: The K names.
        ids: What each row is called where it came from.
        splits: What each row is for, "validation" or "test"; "" where that is not known.
        pictures: Of the rows, uint8 `[N, C, H, W]`; None where they are none.
        columns: The names of what else a row holds: "text", or those of a table.
        cells: By row what it holds of each column.
        keys: Equal for equal rows; empty where that is not known.
        retain_probs: Of the gate `[N, K]`; None for a head without one.
        before: `log_probs` before a temperature was fitted; None where none was.
    """

    log_probs: Tensor
    target: Tensor
    class_names: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str]
    pictures: Inputs | None = None
    columns: Sequence[str] = ()
    cells: Sequence[Sequence[str]] = ()
    keys: Sequence[bytes] = ()
    retain_probs: Tensor | None = None
    before: Tensor | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def noun(self) -> str:
        """What a person calls the rows."""
        if self.pictures is not None:
            return "images"
        return "texts" if self.columns == ("text",) else "rows"

    @cached_property
    def judged(self) -> Tensor:
        """The test rows, by which a classifier is judged; all where none is known to be one."""
        found = torch.tensor([split == TEST for split in self.splits])
        return found if found.any() else torch.ones_like(found)

    def judging(self) -> "Rows":
        """What the classifier says of the rows by which it is judged."""
        return self.part(torch.nonzero(self.judged).flatten().tolist())

    def part(self, which: Sequence[int]) -> "Rows":
        """What the classifier says of some of the rows, without what a person sees of them."""
        index = torch.tensor(which, dtype=torch.int64)
        return Rows(
            self.log_probs[index],
            self.target[index],
            self.class_names,
            [self.ids[n] for n in which],
            [self.splits[n] for n in which],
            before=None if self.before is None else self.before[index],
        )

    @cached_property
    def likeliest(self) -> tuple[Tensor, Tensor]:
        """Probabilities and indices of the likeliest classes, each `[N, TOP]` or fewer."""
        found = self.log_probs.topk(min(TOP, len(self.class_names)))
        return found.values.double().exp(), found.indices

    @cached_property
    def answer(self) -> Tensor:
        """The likeliest class of each row `[N]`."""
        return self.likeliest[1][:, 0]

    @cached_property
    def probability(self) -> Tensor:
        """Of the answer `[N]`."""
        return self.likeliest[0][:, 0]

    @cached_property
    def wrong(self) -> Tensor:
        """Where the answer is not the label `[N]`."""
        return self.answer != self.target

    @cached_property
    def surprise(self) -> Tensor:
        """How little the classifier expects the label, -log p in nats `[N]`."""
        return -self.log_probs.gather(1, self.target[:, None]).squeeze(1).double()

    @cached_property
    def contradicting(self) -> Tensor:
        """Rows that equal one with another label `[N]`."""
        labels: dict[bytes, set[int]] = {}
        for key, label in zip(self.keys, self.target.tolist(), strict=False):
            labels.setdefault(key, set()).add(label)
        found = [len(labels[key]) > 1 for key in self.keys]
        return torch.tensor(found or [False] * len(self), dtype=torch.bool)

    @cached_property
    def tags(self) -> dict[str, Tensor]:
        """Which rows have each tag `[N]`, by its name in `TAGS`."""
        return {name: has(self) for name, has in TAGS.items()}

    def telling(self, most: int) -> list[int]:
        """The rows that tell most: of each tag the most surprising, then others as surprising."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        for has in self.tags.values():
            chosen[self.most_surprising(has, PER_TAG)] = True
        chosen[self.most_surprising(~chosen, max(most - int(chosen.sum()), 0))] = True
        return self.most_surprising(chosen, most)

    def right(self, most: int) -> list[int]:
        """Some of the rows that are right, evenly over all of them."""
        found = torch.nonzero(~self.wrong).flatten()
        evenly = torch.linspace(0, len(found) - 1, min(len(found), most)).long()
        return found[evenly].tolist()

    def suspects(self) -> list[int]:
        """Rows whose label is likely wrong, the likeliest first: the wrong ones by surprise."""
        return self.most_surprising(self.wrong)

    def most_surprising(self, which: Tensor, most: int | None = None) -> list[int]:
        """Of the rows that are marked `[N]`, those whose label is expected least, in that order."""
        rows = torch.nonzero(which).flatten()
        return rows[self.surprise[rows].argsort(descending=True, stable=True)][:most].tolist()

    def told(self, n: int) -> str:
        """What a row holds, as one text."""
        if not self.cells:
            return ""
        cells = self.cells[n]
        if len(cells) == 1:
            return cells[0]
        return ", ".join(f"{name}: {cell}" for name, cell in zip(self.columns, cells, strict=True))

    @cached_property
    def retained(self) -> Retained | None:
        """What the gate keeps of each row; None for a head without one."""
        if self.retain_probs is None:
            return None
        surest = self.retain_probs.topk(min(NAMED, len(self.class_names)))
        counts = (self.retain_probs >= RETAINED).sum(1)
        return Retained(counts, surest.indices, surest.values)


TAGS: Mapping[str, Callable[[Rows], Tensor]] = {
    "wrong but sure": lambda rows: rows.wrong & (rows.probability >= SURE),
    "right but unsure": lambda rows: ~rows.wrong & (rows.probability < UNSURE),
    "label in the top 3": lambda rows: (
        rows.wrong & (rows.likeliest[1] == rows.target[:, None]).any(1)
    ),
    "equal rows, other labels": lambda rows: rows.contradicting,
}
