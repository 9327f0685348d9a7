"""Errors of bainite_fast.

Every error is a :class:`BainiteError` and also the builtin that a Python user would expect to catch. A message says
what came, what is needed and the remedy.
"""

from __future__ import annotations


class BainiteError(Exception):
    """Base class of every error that bainite_fast raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel from worker processes: rebuild from the message alone, then restore the attributes.
        return (_rebuild, (type(self), str(self), dict(self.__dict__)))


def _rebuild(kind: type[BainiteError], message: str, state: dict[str, object]) -> BainiteError:
    error = kind.__new__(kind)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class InputError(BainiteError, ValueError):
    """An argument has a wrong value, shape or dtype."""


class MosaicNotFoundError(BainiteError, FileNotFoundError):
    """The mosaic is not where the caller says it is."""


class MosaicError(InputError):
    """A mosaic, or one place in it, cannot be read or is of an unsupported kind.

    Attributes
    ----------
    place : str or None
        The file, array and pixel region that could not be read, where it is known.
    """

    def __init__(self, message: str, *, place: str | None = None) -> None:
        super().__init__(message)
        self.place = place


class NonFiniteError(MosaicError):
    """A floating-point mosaic holds NaN or infinity."""


class EBSDNotFoundError(BainiteError, FileNotFoundError):
    """The EBSD file is not where the caller says it is."""


class EBSDFileError(InputError):
    """An EBSD file is damaged or of an unsupported kind.

    Attributes
    ----------
    file : str or None
        The file's name, where it is known.
    line : int or None
        The line of a text file, counted from 1, where it is known.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        place = "" if file is None else f"{file}: " if line is None else f"{file}, line {line}: "
        super().__init__(f"{place}{message}")
        self.file = file
        self.line = line


class ModelError(BainiteError, ValueError):
    """A model cannot be loaded, fails its self-test, or cannot be run in tiles."""


class OutputExistsError(BainiteError, FileExistsError):
    """The output is there already."""


class OutputError(BainiteError, OSError):
    """The output cannot be written: no space, no permission, not a local path."""


class OutputLockedError(BainiteError, BlockingIOError):
    """Another process is writing this output."""


class JournalError(BainiteError, ValueError):
    """The journal of an unfinished run belongs to another model, plan or input, or cannot be read."""


class BudgetError(BainiteError, MemoryError):
    """The memory budget is too small for the smallest possible plan."""


class DeviceError(BainiteError, RuntimeError):
    """The requested device or precision is not available."""


class TrainingError(BainiteError, ArithmeticError):
    """Training cannot go on: the loss or its gradient is NaN or infinite.

    Attributes
    ----------
    place : str or None
        Folder that holds the batch, where it could be written.
    """

    def __init__(self, message: str, *, place: str | None = None) -> None:
        super().__init__(message)
        self.place = place


class MissingExtraError(BainiteError, ImportError):
    """A function needs an optional package that is not installed."""


class BainiteWarning(UserWarning):
    """Something the user should know that does not stop the run."""
