"""The command `dropmax`: a user's mistake ends in one line and exit code 2."""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: What stands after `dropmax`; that of the process if None.

    Returns:
        0, 2 for wrong input, 1 for a run that broke down, 130 where it was interrupted.

    Examples:
        >>> from dropmax.cli import main
        >>> main(["evaluate", "nowhere"])
        2
    """
    try:
        from typer import TyperException
        from typer.main import get_command

        from dropmax.cli.commands import app
        from dropmax.data import BrokenRows
        from dropmax.training import TrainingError
    except ModuleNotFoundError as error:
        return _fail(f"dropmax: the command needs {error.name}; install dropmax[train].", 2)
    try:
        with warnings.catch_warnings(action="always", category=BrokenRows):
            warnings.showwarning = partial(_show, BrokenRows, warnings.showwarning)
            code = get_command(app).main(
                args=None if arguments is None else list(arguments),
                prog_name="dropmax",
                standalone_mode=False,
            )
    except TyperException as error:
        return _fail(f"dropmax: {error.format_message()}", 2)
    except (ValueError, OSError) as error:
        return _fail(str(error), 2)
    except TrainingError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("dropmax: interrupted; the same command goes on.", 130)
    return code if isinstance(code, int) else 0


def run() -> None:
    """The entry point of the command."""
    sys.exit(main())


def _fail(message: str, code: int) -> int:
    _say(message)
    return code


def _show(
    plain: type[Warning],
    others: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *place: Any,
    **options: Any,
) -> None:
    """Show warnings of one category as a line, and the others as they were."""
    if issubclass(category, plain):
        _say(str(message))
    else:
        others(message, category, *place, **options)


def _say(message: str) -> None:
    print(" ".join(message.split()), file=sys.stderr)
