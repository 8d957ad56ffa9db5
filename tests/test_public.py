"""The public names and their signatures are those of `public.txt`.

Who changes one on purpose runs `python tests/test_public.py`, which writes that file anew, and says
so in the changelog.
"""

import inspect
from functools import cached_property
from pathlib import Path

import dropmax
from dropmax import errors
from dropmax.integrations import transformers
from dropmax.training import networks

LIST = Path(__file__).with_name("public.txt")


def public():
    """A line for each name at its first place, and how it is called."""
    seen = []
    for room in (dropmax, errors, transformers, *rooms(), networks):
        for name in sorted(room.__all__):
            value = getattr(room, name)
            if not inspect.ismodule(value) and not any(value is one for one in seen):
                yield from described(f"{room.__name__}.{name}", value)
                seen.append(value)


def rooms():
    """The rooms that have public names of their own."""
    attributes = (getattr(dropmax, name) for name in sorted(dropmax.__all__))
    return [x for x in attributes if inspect.ismodule(x) and hasattr(x, "__all__")]


def described(place, value):
    """The signature of a function, of a class and its own methods, or the name alone."""
    if inspect.isclass(value):
        yield f"class {place}{signature(value)}"
        for name, member in sorted(vars(value).items()):
            if isinstance(member, property | cached_property):
                yield f"    {name}"
            elif inspect.isroutine(member) and not name.startswith(("_", "set_")):
                yield f"    {name}{signature(getattr(value, name))}"
    else:
        yield place + (signature(value) if inspect.isroutine(value) else "")


def signature(function):
    """Names, kinds and defaults of the arguments, without their types."""
    if inspect.isclass(function) and issubclass(function, BaseException):
        return ""
    found = inspect.signature(function)
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    return str(inspect.Signature(bare))


def text():
    return "".join(f"{line}\n" for line in public())


def test_the_public_names_and_signatures_are_those_that_were_agreed():
    assert text() == LIST.read_text(), "run python tests/test_public.py, and tell the changelog"


if __name__ == "__main__":
    LIST.write_text(text())
