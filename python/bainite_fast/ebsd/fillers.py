"""Columns that a text format demands and a map has no values for: their fillers are named in the header.

Other programs skip what they do not know there, and so read the file as any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import InputError

ANG_KEY = "FILLER_COLUMNS"
"""Key of the header line of an ``.ang`` file."""
ANG_COLUMNS = {"iq": "iq", "ci": "ci", "sem_signal": "sem_signal", "fit": "fit"}
CTF_KEY = "Author"
"""Where a ``.ctf`` file names them: readers count the lines of its header, and this is the one of free text."""
CTF_COLUMNS = {"bands": "Bands", "mad": "MAD", "band_contrast": "BC", "band_slope": "BS"}
_IN_CTF = re.compile(r"\[filler columns: ([^\]]*)\]")


def filler_names(present: Iterable[str], columns: Mapping[str, str]) -> str:
    """Return the file's names of the columns that a map with these properties has no values for, "" where it has all.

    Parameters
    ----------
    present : iterable of str
        Properties of the map.
    columns : Mapping
        Property → name of its column, of all that can be missing.
    """
    there = set(present)
    return ", ".join(name for ours, name in columns.items() if ours not in there)


def fillers_in(text: str, columns: Mapping[str, str]) -> frozenset[str]:
    """Return the properties whose columns a header names as fillers.

    Raises
    ------
    InputError
        If it names another column.
    """
    ours = {name.lower(): key for key, name in columns.items()}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name.lower() not in ours:
            raise InputError(f"{name[:40]!r} is no column that can be a filler; {', '.join(columns.values())} can")
    return frozenset(ours[name.lower()] for name in names)


def ctf_text(names: str) -> str:
    """Return what a ``.ctf`` file says of its filler columns."""
    return f"[filler columns: {names}]" if names else ""


def fillers_in_ctf(text: str) -> frozenset[str]:
    """Return the properties whose columns a ``.ctf`` file names as fillers, see :func:`fillers_in`."""
    found = _IN_CTF.search(text)
    return fillers_in(found[1], CTF_COLUMNS) if found else frozenset()
