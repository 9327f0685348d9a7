"""The bridge to orix. orix is under the GPL: it is no dependency, and is imported only when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..errors import MissingExtraError
from .map import EBSDMap


def to_orix(ebsd: EBSDMap) -> Any:
    """Return a map as an `orix.crystal_map.CrystalMap`; see :meth:`EBSDMap.to_orix`."""
    try:
        crystal_map = importlib.import_module("orix.crystal_map")
        quaternion = importlib.import_module("orix.quaternion")
        structure = importlib.import_module("diffpy.structure")
    except ImportError as error:
        raise MissingExtraError(
            f"to_orix needs the package 'orix', which cannot be imported ({error}); it is licensed under the GPL and "
            "no dependency of bainite-fast: install it yourself with: pip install orix"
        ) from error
    phases = crystal_map.PhaseList(
        [
            crystal_map.Phase(
                name=phase.name,
                point_group=phase.laue,
                structure=None
                if phase.lattice is None
                else structure.Structure(title=phase.name, lattice=structure.Lattice(*phase.lattice)),
            )
            for phase in ebsd.phases
        ],
        ids=[phase.id for phase in ebsd.phases],
    )
    x, y = ebsd.grid.coordinates()
    return crystal_map.CrystalMap(
        rotations=quaternion.Rotation(ebsd.quaternions),
        phase_id=np.asarray(ebsd.phase_id, np.int64),
        x=x,
        y=y,
        phase_list=phases,
        prop={name: np.asarray(values) for name, values in ebsd.properties.items()},
        scan_unit=ebsd.unit,
    )
