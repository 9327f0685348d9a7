"""Optional packages, asked for at the call and by the name of the extra that brings them."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import MissingExtraError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Parameters
    ----------
    module : str
        Import name, such as ``"matplotlib"``.
    extra : str
        Name of the extra in ``pip install "bainite-fast[extra]"``.
    purpose : str
        What needs it; the first words of the error.

    Returns
    -------
    ModuleType
        The imported module.

    Raises
    ------
    MissingExtraError
        If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {module.partition('.')[0]!r}, which cannot be imported ({error}); "
            f'install it with: pip install "bainite-fast[{extra}]"'
        ) from error
