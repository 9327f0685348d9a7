"""Which mask belongs to which image: by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BainiteWarning, InputError, MosaicNotFoundError
from ..io import image_group, label_names
from ..io.files import read_group
from ..io.labels import has_own_image
from ..io.ome_metadata import ome_attributes

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
_OF_MASKS = ("mask", "masks", "label", "labels", "gt", "truth", "annotation", "seg", "segmentation")
_OF_IMAGES = ("image", "images", "img")
Kinds = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Match:
    """An image and its mask."""

    name: str
    image: Path
    mask: Path


def plain_name(name: str) -> str:
    """Return a file's name without folder and suffix: ``a/b.ome.tif`` and ``a/b.ome.zarr`` are ``b``."""
    name = Path(name).name
    for suffix in (*SUFFIXES, ".zarr"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name[:-4] if name.lower().endswith(".ome") else name


def _without(name: str, words: Sequence[str]) -> str:
    for word in words:
        for mark in "_-. ":
            if name.lower().endswith(mark + word):
                return name[: -len(word) - 1]
            if name.lower().startswith(word + mark):
                return name[len(word) + 1 :]
    return name


def read_names(names: str | Path | Sequence[str]) -> list[str]:
    """Return names without suffixes, from a sequence or a text file with one a line.

    Raises
    ------
    InputError
        If the file cannot be read, there are none, or one comes twice.
    """
    if isinstance(names, (str, Path)):
        try:
            lines = Path(names).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"the list {names} cannot be read ({error}); a text file with one name a line is needed"
            ) from error
    else:
        lines = list(names)
    found = [plain_name(line.strip()) for line in lines if line.strip() and not line.strip().startswith("#")]
    if not found:
        raise InputError(f"the list {names} holds no name; write one a line")
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise InputError(f"the list holds {', '.join(twice[:5])} more than once; name each image once")
    return found


def is_zarr(path: Path) -> bool:
    """Say whether a path is a folder with Zarr metadata."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _is_labels_alone(path: Path) -> bool:
    """Say whether a path is an OME-Zarr of labels without an image."""
    if not (path.is_dir() and is_zarr(path / "labels")):
        return False
    group = read_group(path)
    return group is not None and not has_own_image(ome_attributes(group[0])[0])


def _is_picture(path: Path) -> bool:
    return is_zarr(path) if path.is_dir() else path.suffix.lower() in SUFFIXES


def list_pictures(folder: Path, what: str) -> dict[str, Path]:
    """Return the pictures of a folder by plain name, in the order of their names.

    Raises
    ------
    MosaicNotFoundError
        If there is no such folder.
    InputError
        If it is a file, holds no picture, or two of one name.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file, and a folder of {what} is needed; give the folder that holds it")
    if not folder.is_dir():
        raise MosaicNotFoundError(f"the folder of {what}, {folder}, does not exist")
    files = sorted(p for p in folder.iterdir() if _is_picture(p) and not p.name.startswith("."))
    if not files:
        raise InputError(f"the folder of {what}, {folder}, holds no picture; {', '.join(SUFFIXES)} and Zarr are read")
    found: dict[str, Path] = {}
    for path in files:
        name = plain_name(path.name)
        if name in found and what == "images":
            # Segmenting a picture makes an OME-Zarr of its labels beside it.
            found[name], path = sorted((found[name], path), key=_is_labels_alone)
            if _is_labels_alone(path) and not _is_labels_alone(found[name]):
                continue
        if name in found:
            raise InputError(f"{folder} holds {found[name].name} and {path.name}, which are one name; keep one of them")
        found[name] = path
    return found


def match_files(
    images: Path,
    masks: Path,
    names: str | Path | Sequence[str] | None = None,
    *,
    kinds: Kinds = ("image", "mask"),
) -> list[Match]:
    """Pair the images of one folder with the masks of another, or of the same.

    Parameters
    ----------
    images, masks : Path
        Folders. Or an OME-Zarr, or a folder of such, and the name of the labels in each; or an OME-Zarr and its labels.
    names : path or sequence of str, optional
        Which images, in this order.
    kinds : (str, str)
        What the two folders hold, for messages. Folders that are not of images and masks may not be one, and what
        marks a mask (such as ``_mask``) is overlooked in both.

    Raises
    ------
    InputError
        If nothing matches, a mask is ambiguous, or a listed image or its mask is missing.

    Warns
    -----
    BainiteWarning
        If, without a list, files have no partner.
    """
    first, second = kinds
    pictures = {plain_name(images.name): images} if is_zarr(images) else list_pictures(images, f"{first}s")
    if is_zarr(images) and (is_zarr(masks) or not masks.is_dir()):
        drawn = {plain_name(images.name): _labels_of(images, masks)}
    else:
        drawn = _labels_inside(pictures, masks) or list_pictures(masks, f"{second}s")
    if images.resolve() == masks.resolve():
        pictures, drawn = _parted(pictures, drawn, images, kinds)
    bare: dict[str, list[str]] = {}
    for name in drawn:
        bare.setdefault(_without(name, _OF_MASKS), []).append(name)
    words = _OF_IMAGES if first == "image" else _OF_MASKS
    pairs: dict[str, Match] = {}
    for name, path in pictures.items():
        mask = _mask_of(name, drawn, bare, words, kinds)
        if mask is not None:
            pairs[name] = Match(name, path, drawn[mask])
    if names is not None:
        return _listed(read_names(names), pairs, pictures, (images, masks), kinds)
    used = {match.mask for match in pairs.values()}
    alone = [str(path) for name, path in pictures.items() if name not in pairs]
    unused = [str(path) for path in drawn.values() if path not in used]
    if not pairs:
        raise InputError(
            f"no {first} of {images} has a {second} of its name in {masks}: {first}s are called {_some(pictures)}, "
            f"{second}s {_some(drawn)}; give both the same name (suffixes such as _mask are overlooked)"
        )
    for files, has, lacks in ((alone, first, second), (unused, second, first)):
        if files:
            what = f"{len(files)} {has}{'s' * (len(files) > 1)} without {'an' if lacks[0] in 'aeiou' else 'a'} {lacks}"
            warnings.warn(f"{what} left out: {_some(files)}", BainiteWarning, stacklevel=4)
    return list(pairs.values())


def _labels_of(image: Path, labels: Path) -> Path:
    """Return the labels of an OME-Zarr: those of this name in it, or the path itself.

    Raises
    ------
    MosaicNotFoundError
        If there are none.
    """
    inside = image_group(image) / "labels" / labels
    if is_zarr(inside):
        return inside
    if not labels.exists():
        names = ", ".join(label_names(image)) or "none"
        raise MosaicNotFoundError(
            f"{image} has no labels {str(labels)!r} (it has {names}), and no file is called so; give the name of one "
            "of its label images, a label group, or an image of class indices"
        )
    return labels


def _labels_inside(pictures: dict[str, Path], labels: Path) -> dict[str, Path]:
    """Return the labels of this name that lie in the pictures themselves, which are OME-Zarrs.

    Raises
    ------
    MosaicNotFoundError
        If there is nothing else that the name could mean, and none has them.
    """
    if labels.exists() or len(labels.parts) != 1:
        return {}
    inside = {name: image_group(path) / "labels" / labels for name, path in pictures.items() if path.is_dir()}
    found = {name: path for name, path in inside.items() if is_zarr(path)}
    if not found and len(inside) == len(pictures):
        _labels_of(next(iter(pictures.values())), labels)
    return found


def _parted(
    pictures: dict[str, Path], drawn: dict[str, Path], folder: Path, kinds: Kinds
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images and the masks of one folder, told apart by their names."""
    if kinds != ("image", "mask"):
        raise InputError(f"{kinds[0]}s and {kinds[1]}s are the same folder, {folder}; give two")
    drawn = {name: path for name, path in drawn.items() if _without(name, _OF_MASKS) != name}
    if not drawn:
        raise InputError(
            f"images and masks are the same folder, {folder}, and none of its files is called a mask (by a suffix such "
            "as _mask); give the folder of the masks"
        )
    return {name: path for name, path in pictures.items() if name not in drawn}, drawn


def _mask_of(
    name: str, drawn: dict[str, Path], bare: dict[str, list[str]], words: Sequence[str], kinds: Kinds
) -> str | None:
    if name in drawn:
        return name
    found = bare.get(name) or bare.get(_without(name, words)) or []
    if len(found) > 1:
        raise InputError(
            f"the {kinds[0]} {name} has the {kinds[1]}s {', '.join(found)}; keep one of them in the folder"
        )
    return found[0] if found else None


def _listed(
    wanted: list[str], pairs: dict[str, Match], pictures: dict[str, Path], folders: tuple[Path, Path], kinds: Kinds
) -> list[Match]:
    for there, folder, lack in (
        (pictures, folders[0], f"no {kinds[0]}"),
        (pairs, folders[1], f"no {kinds[1]}"),
    ):
        lost = [name for name in wanted if name not in there]
        if lost:
            held = f"; {folder} holds {_some(pictures)}" if there is pictures else ""
            raise InputError(f"{_some(lost)} of the list {'have' if len(lost) > 1 else 'has'} {lack} in {folder}{held}")
    return [pairs[name] for name in wanted]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
