"""The command `dropmax`: a user's mistake ends in one line and exit code 2."""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dropmax import __version__
from dropmax.errors import DropmaxError, TrainingError

__all__ = ["main"]

DEBUG = "--debug"
OF_FUNCTION = re.compile(r"[A-Za-z]\w*(\.\w+)?: ")
"""How an error or a warning of a function starts."""
OTHERWISE = {"source": "data", "root": "data_root", "texts": "text", "level": "sets"}
"""Arguments of functions that options are called otherwise for."""
INTERRUPTED = 130
"""The exit code of a command that was interrupted, as shells have it; typer has it, too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    A `DropmaxError` is shown as one line, with the options of the command. Any other error is a
    mistake of ours, and its traceback is shown. With `--debug` anywhere in the command, every
    error shows its traceback.

    Args:
        arguments: What follows `dropmax` on the command line; that of the process if None.

    Returns:
        0 if all went well, 2 for wrong input, 1 if a run broke down or we made a mistake, 130 if it
        was interrupted.

    Examples:
        >>> from dropmax.cli import main
        >>> main(["evaluate", "nowhere"])
        2
    """
    return run_app(_app, "dropmax", arguments)


def run_app(app: Callable[[], Any], name: str, arguments: Sequence[str] | None) -> int:
    """Run a typer app, which the function `app` imports, and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    try:
        from typer import TyperException
        from typer.main import get_command

        from dropmax.data import DataWarning

        command = get_command(app())
    except ModuleNotFoundError as error:
        return _fail(f"{name}: the command needs {error.name}; pip install 'dropmax[train]'.", 2)
    in_command = partial(_in_command, name, _options(command, given))
    try:
        with warnings.catch_warnings(action="always", category=DataWarning):
            warnings.showwarning = partial(_show, DataWarning, in_command, warnings.showwarning)
            code = command.main(
                args=[argument for argument in given if argument != DEBUG],
                prog_name=name,
                standalone_mode=False,
            )
    except TyperException as error:
        return _fail(f"{name}: {error.format_message()}", 2)
    except DropmaxError as error:
        _say(traceback.format_exc() if debug else in_command(str(error)))
        return 1 if isinstance(error, TrainingError) else 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # who reads the output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        traceback.print_exc()
        message = (
            f"{name}: this is a mistake of dropmax {__version__}, not yours; "
            "please report it to the developers with the lines above and your command."
        )
        return _fail(message, 1)
    if code == INTERRUPTED:
        return _fail(f"{name}: interrupted; the same command resumes it.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _app() -> Any:
    from dropmax.cli.commands import app

    return app


def run() -> None:
    """The entry point of the command."""
    sys.exit(main())


def _fail(message: str, code: int) -> int:
    _say(" ".join(message.split()))
    return code


def _options(command: Any, given: Sequence[str]) -> dict[str, str]:
    """What the command calls arguments of functions; under "" the name of the one given."""
    commands = getattr(command, "commands", {})
    name = next((argument for argument in given if argument in commands), "")
    params = commands.get(name, command).params
    options = {p.name: p.opts[0] for p in params if p.opts[0].startswith("-")}
    found = {ours: options[its] for ours, its in OTHERWISE.items() if its in options}
    return {"": name, **found, **options}


def _in_command(name: str, options: Mapping[str, str], message: str) -> str:
    """A message of a function in the words of the command, on one line."""
    message = " ".join(message.split())
    if not (found := OF_FUNCTION.match(message)):
        return message
    rest = message[found.end() :]
    argument, must, after = rest.partition(" must ")
    said = f"{options.get(argument, argument)}{must}{after}" if must else rest
    return f"{' '.join(filter(None, (name, options[''])))}: {said}"


def _show(
    plain: type[Warning],
    in_command: Callable[[str], str],
    others: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *place: Any,
    **options: Any,
) -> None:
    """Show warnings of one category as a plain line, and all others as before."""
    if issubclass(category, plain):
        _say(in_command(str(message)))
    else:
        others(message, category, *place, **options)


def _say(message: str) -> None:
    print(message.rstrip(), file=sys.stderr)
