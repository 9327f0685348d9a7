"""Messages of the library, which speak Python, in the spelling of the command line."""

from __future__ import annotations

import re

_FLAGS = {
    "overwrite=True": "--overwrite",
    "resume=False": "--no-resume",
    "resume=True": "--resume",
    "mask_values={value: class, …}": "--mask-value VALUE=CLASS",
    "allow_missing=True": "--allow-missing",
    "math.inf": "inf",
    "read it with bainite_fast.ebsd.read()": "see `bainite-fast ebsd info`",
    "open it with bainite_fast.io.open_mosaic()": "see `bainite-fast info`",
    ".to_square()": "`bainite-fast ebsd convert --square UM`",
}
_FLAG = re.compile("|".join(map(re.escape, _FLAGS)))
_NAMES = (
    "scale", "plane", "channel", "level", "memory", "tile", "normalize", "precision", "device", "edge", "crop_bar",
    "out", "name", "gigapixels", "tiles", "tolerance", "folds", "seeds", "subset", "by", "strengths", "lom", "sem",
    "source", "target", "classes", "um_per_px", "split", "epochs", "scan",
    "max_angle", "in_grains", "min_points", "neighbourhood", "phases",
)  # fmt: skip
_OPTION = re.compile(
    rf"(?<![\w.])({'|'.join(_NAMES)})="
    r"('[^']*'|\"[^\"]*\"|\{[^}]*\}|\([^)]*\)|<[^>]*>|[^\s;,)]*)"
)


def as_options(text: str) -> str:
    """Return a message with its keyword arguments written as options: ``tile=96`` is ``--tile 96``."""
    return _OPTION.sub(_option, _FLAG.sub(lambda match: _FLAGS[match[0]], text))


def _option(match: re.Match[str]) -> str:
    name, value = match[1].replace("_", "-"), match[2]
    if value.startswith("{"):  # axes and indices: {'z': 3, 't': 0} is z=3,t=0
        value = value[1:-1].replace("'", "").replace(": ", "=").replace(", ", ",")
    elif value.startswith("("):
        value = value[1:-1].replace(", ", ",").upper()
    elif value.startswith(("'", '"')):
        value = value[1:-1]
    return f"--{name} {value}".rstrip()
