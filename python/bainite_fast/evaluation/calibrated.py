"""A copy of a model package that knows how far its confidence can be trusted."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ModelError
from ..models import bundled_names, load_package, save_package
from ..models.card import model_card
from ..models.catalog import PACKAGE_FILES, bundled_path
from ..models.package_files import check_target, read_description
from .calibration import TEMPERATURES

_NOTE = re.compile(r"\nCalibrated: confidence = softmax\(logits / [^)\n]*\)\.\n")


def calibrated_copy(
    model: str | os.PathLike[str], path: str | os.PathLike[str], temperature: float, *, overwrite: bool = False
) -> Path:
    """Write a copy of a model package with the temperature of a calibration.

    Labels do not change; the confidence of :func:`bainite_fast.segment` becomes that of logits / temperature.

    Parameters
    ----------
    model : str or path
        Bundled name, package folder or zip.
    path : path
        The copy: a folder, or a zip file if it ends in ``.zip``.
    temperature : float
        Of :class:`~bainite_fast.evaluation.Calibration`.
    overwrite : bool
        Replace the package, or the file, that is at `path`.

    Returns
    -------
    Path
        Of the copy.

    Raises
    ------
    ModelError
        If `model` is no package, or the temperature is out of range.
    OutputExistsError
        If `path` exists, and `overwrite` is false, it is `model`, or a folder that holds anything but a package.
    """
    least, most = TEMPERATURES
    if not isinstance(temperature, (int, float)) or not least <= temperature <= most:
        raise ModelError(f"temperature={temperature!r} is refused; a number of {least:g} … {most:g} is needed")
    source = check_copy(model, path, overwrite=overwrite)
    loaded = load_package(source)
    config, card = read_description(source)
    if loaded.test_input is None:
        raise ModelError(f"{source} has no test input; pack it again with save_package")
    kept = _NOTE.sub("", card)  # of an earlier calibration
    note = f"\nCalibrated: confidence = softmax(logits / {temperature:.4g}).\n"
    return save_package(
        loaded.module,
        path,
        classes=[one.name for one in config.classes],
        colors=[one.color for one in config.classes],
        test_input=loaded.test_input,
        name=config.name,
        um_per_px=config.um_per_px,
        normalize=(config.mean, config.std),
        description=config.description,
        card="" if card == model_card(config) else kept + note,
        training=config.training,
        recipe=config.recipe,
        scores=config.scores,
        temperature=temperature,
        synthetic_only=config.synthetic_only,
        overwrite=overwrite,
    )


def check_copy(model: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return where a model package lies, or refuse what :func:`calibrated_copy` cannot copy, or replace.

    Raises
    ------
    ModelError
        If `model` is no package.
    OutputExistsError
        As for :func:`calibrated_copy`.
    """
    source = bundled_path(str(model)) if str(model) in bundled_names() else Path(model)
    if source.suffix in (".pt", ".pth", ".ts"):
        raise ModelError(f"{source} is no model package, and only packages keep a temperature")
    check_target(Path(path), overwrite=overwrite, members=PACKAGE_FILES, source=str(source))
    return source
