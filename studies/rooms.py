"""The rooms of the package and what they import of one another, drawn from the code.

`python -m studies.rooms` writes docs/images/rooms.svg anew. What follows from two other imports is
not drawn.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from dropmax._files import whole
from dropmax.report.dark import follow_scheme

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "dropmax"
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
SMALL = {"errors", "_check", "_files", "_progress", "__init__", "integrations"}
"""Not drawn: everything leans on them, or they hold nothing of their own."""


def room_of(path: Path) -> str:
    """The room that a file of the package stands in."""
    return room(list(path.relative_to(SOURCE).with_suffix("").parts))


def room(parts: Sequence[str]) -> str:
    """The room of a file or module below the package; each integration is one."""
    inner = parts[0] == "integrations" and parts[1:2] not in ([], ["__init__"])
    return ".".join(parts[: 2 if inner else 1])


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it the import stands; not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if ast.unparse(node)[:16] != "if TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "dropmax":
                yield from (f"dropmax.{alias.name}" for alias in node.names)
            else:
                yield node.module or "."


def import_graph() -> dict[str, set[str]]:
    """For each room that is drawn the others that it imports."""
    graph: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        graph.setdefault(room_of(path), set())
        for module in imported(path):
            top, *rest = module.split(".")
            if top == "dropmax" and rest:
                graph[room_of(path)].add(room(rest))
    return {
        room: {other for other in others if other in graph} - SMALL - {room}
        for room, others in graph.items()
        if room not in SMALL
    }


def reached(graph: Mapping[str, set[str]], room: str) -> set[str]:
    """The rooms that a room imports, itself or through others."""
    return graph[room].union(*(reached(graph, other) for other in graph[room]))


def levels(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """How many rooms lie below a room, one on the other."""

    def level(room: str) -> int:
        return max((1 + level(other) for other in graph[room]), default=0)

    return {room: level(room) for room in graph}


def arrows(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """What imports what, but for what follows from two others."""
    return [
        (room, other)
        for room, others in graph.items()
        for other in sorted(others - set().union(*(reached(graph, one) for one in others)))
    ]


def places(graph: Mapping[str, set[str]]) -> dict[str, tuple[float, int]]:
    """Where a room is drawn: those that import nothing at the bottom, each below its importers."""
    level = levels(graph)
    place: dict[str, tuple[float, int]] = {}

    def above(room: str) -> float:
        at = [place[one][0] for one, other in arrows(graph) if other == room]
        return sum(at) / len(at) if at else 1.0

    for n in range(max(level.values()), -1, -1):
        row = sorted((room for room in graph if level[room] == n), key=above)
        place |= {room: ((k + 0.5) / len(row), n) for k, room in enumerate(row)}
    return place


def rooms_figure(graph: Mapping[str, set[str]]) -> Any:
    """The rooms in rows, each joined to those below that it imports."""
    place = places(graph)
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    axes = figure.add_subplot()
    for ends in arrows(graph):
        axes.plot(*zip(*(place[room] for room in ends), strict=True), color="#999999", zorder=0)
    for room, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#0072b2"}
        axes.text(x, y, room, ha="center", va="center", fontsize=10, bbox=box)
    axes.margins(0.08)
    axes.axis("off")
    return figure


def described(graph: Mapping[str, set[str]]) -> str:
    """The picture in words, which its file carries."""
    return ", ".join(f"{room} imports {other}" for room, other in arrows(graph))


if __name__ == "__main__":
    graph = import_graph()
    metadata = {"Date": None, "Description": described(graph)}
    with whole(PICTURE) as partial, rc_context({"svg.hashsalt": "dropmax"}):
        rooms_figure(graph).savefig(partial, format="svg", metadata=metadata)
        follow_scheme(partial)
