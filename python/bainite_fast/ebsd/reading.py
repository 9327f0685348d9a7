"""Reading EBSD maps of any format."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import EBSDFileError, EBSDNotFoundError
from ..io.open import image_format
from .map import EBSDMap

_OPEN = "open it with bainite_fast.io.open_mosaic()"
_HDF5 = b"\x89HDF\r\n\x1a\n"
FORMATS = ("ang", "ctf", "cpr", "hdf5", "zarr")


def read(path: str | os.PathLike[str], *, scan: str | int | None = None, allow_missing: bool = False) -> EBSDMap:
    """Read an EBSD map.

    The format is told by what is in the file, not by its name: ``.ang`` (TSL, EDAX), ``.ctf`` and ``.cpr``/``.crc``
    (Oxford Instruments), HDF5 of EDAX (``.h5``, ``.oh5``), Oxford Instruments (``.h5oina``) and Bruker (``.h5``), and
    the Zarr stores of :func:`write`.

    Parameters
    ----------
    path : str or path-like
        The file; of a ``.cpr``/``.crc`` pair, either.
    scan : str or int, optional
        Which scan of an HDF5 file that holds several: its name, or its position counted from 0. A text that is a name,
        such as "1" in Oxford Instruments' files, is taken as one.
    allow_missing : bool
        Read files that lack points of their grid, truncated ones too: these points are not indexed, nor is that of a
        last line or record that was cut in the middle. ``.ctf`` files may lack points in any case, but not all behind
        the last one that is there.

    Returns
    -------
    EBSDMap
        Hexagonal scans stay hexagonal. Orientations are as the file has them, but for trigonal and hexagonal phases
        of Oxford Instruments' files: there the crystal's x axis is along a*, and is turned by 30° onto a, as in the
        files of TSL and EDAX.

    Raises
    ------
    EBSDNotFoundError
        If there is no such file.
    EBSDFileError
        If the file is of no known format, or damaged: the message names the file, and of text files the line.
    MissingExtraError
        If HDF5 is to be read and h5py is not installed.
    """
    place = Path(path)
    if not place.exists():
        raise EBSDNotFoundError(f"{place} does not exist; give the path of an EBSD file")
    if place.is_dir():
        if not any((place / name).exists() for name in ("zarr.json", ".zgroup")):
            raise EBSDFileError("this is a folder and no Zarr store; give an EBSD file", file=str(place))
        if scan is not None:
            raise EBSDFileError("scan= chooses a scan of an HDF5 file, and this is a Zarr store", file=str(place))
        from .zarr_store import read_zarr

        return read_zarr(place)
    return _read_file(place, scan, allow_missing)


def _read_file(path: Path, scan: str | int | None, allow_missing: bool) -> EBSDMap:
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        raise EBSDFileError("the file is empty", file=path.name)
    if start.startswith(_HDF5):
        from .hdf5 import read_hdf5

        return read_hdf5(path, scan=scan, allow_missing=allow_missing)
    if scan is not None:
        raise EBSDFileError("scan= chooses a scan of an HDF5 file, and this is none", file=path.name)
    image = image_format(start)
    if image:
        raise EBSDFileError(f"this is a {image} image and no EBSD scan: {_OPEN}", file=path.name)
    kind = _text_kind(path, start)
    if kind == "ctf":
        from .ctf import read_ctf

        return read_ctf(path, allow_missing=allow_missing)
    if kind == "cpr":
        from .crc import read_crc

        return read_crc(path, allow_missing=allow_missing)
    from .ang import read_ang

    return read_ang(path, allow_missing=allow_missing)


def _text_kind(path: Path, start: bytes) -> str:
    """Tell ``.ang``, ``.ctf`` and ``.cpr``/``.crc`` apart."""
    from .text_rows import decode, refuse_encoding

    suffix = path.suffix.lower()
    if suffix == ".crc":
        return "cpr"  # bytes of any value: only the name and the .cpr beside it tell
    refuse_encoding(path.name, start)
    head = decode(start).lstrip()
    if head.lower().startswith("channel text file") or "\tEuler1\tEuler2\tEuler3" in head:
        return "ctf"
    if head.startswith("["):
        return "cpr"
    first = head.split(None, 1)[0] if head.split() else ""
    if head.startswith("#") or _is_number(first) or suffix == ".ang":
        return "ang"
    if suffix == ".ctf":
        return "ctf"
    if suffix == ".cpr":
        return "cpr"
    raise EBSDFileError(
        "this is no EBSD file of a known format: .ang, .ctf, .cpr/.crc, or HDF5 of EDAX, Oxford or Bruker",
        file=path.name,
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
