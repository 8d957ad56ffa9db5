"""What an error has to say in every test: its type, the function that was called, the argument."""

from contextlib import contextmanager

import pytest

from dropmax.errors import DropmaxError


@contextmanager
def raises(kind, where):
    """Within, an error of dropmax of this type is raised, whose message begins `where must`."""
    with pytest.raises(kind) as raised:
        yield raised
    assert isinstance(raised.value, DropmaxError)
    message = str(raised.value)
    assert message.startswith(f"{where} must "), message
    assert "\n" not in message
