"""What stands in a tree where a value could not be built, so that other values can still be checked."""

from typing import Any, NoReturn


class UnbuiltValueError(Exception):
    """A rule asked for a value that could not be built; its fault has been told already."""


class Unbuilt:
    """A value that is not there: whatever is asked of it raises UnbuiltValueError."""

    __slots__ = ()

    def _refuse(self, *_: Any) -> NoReturn:
        raise UnbuiltValueError

    __bool__ = __str__ = __format__ = __hash__ = __len__ = __iter__ = __contains__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __and__ = __rand__ = _refuse
    __fspath__ = __getitem__ = __getattr__ = _refuse
