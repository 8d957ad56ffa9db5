"""What dropmax raises: an error of the type that fits, which is always a `DropmaxError`, too."""

__all__ = [
    "DropmaxAttributeError",
    "DropmaxError",
    "DropmaxFileNotFoundError",
    "DropmaxImportError",
    "DropmaxOSError",
    "DropmaxTypeError",
    "DropmaxValueError",
    "TrainingError",
]


class DropmaxError(Exception):
    """Something that you gave or that this machine lacks; the message says what to do.

    Examples:
        >>> import dropmax
        >>> try:
        ...     dropmax.make_head("drop-max", 16, 5)
        ... except dropmax.DropmaxError as error:
        ...     print(str(error).partition("; ")[2])
        did you mean 'dropmax'?
    """


class DropmaxValueError(DropmaxError, ValueError):
    """A value, shape, dtype or device that doesn't fit."""


class DropmaxTypeError(DropmaxError, TypeError):
    """An argument of another type than the function takes."""


class DropmaxAttributeError(DropmaxError, AttributeError):
    """A method of tensors, asked of something that holds several."""


class DropmaxOSError(DropmaxError, OSError):
    """A file or folder that cannot be read or written."""


class DropmaxFileNotFoundError(DropmaxError, FileNotFoundError):
    """A file or folder that isn't there."""


class DropmaxImportError(DropmaxError, ImportError):
    """An extra that isn't installed."""


class TrainingError(DropmaxError, RuntimeError):
    """A run that cannot go on: one of its terms is no longer finite."""
