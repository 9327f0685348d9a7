"""Which phases of a map can be ferrite or bainite: body-centred cubic iron, by lattice and name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

import numpy as np

from ..errors import BainiteWarning, InputError
from .laue import Phase
from .map import EBSDMap

A_IRON, A_TOLERANCE = 2.87, 0.09
"""Lattice parameter of body-centred cubic iron in Å, and how far alloying, heat and calibration move it.

Pure iron has 2.866 Å, Fe-Al and δ-ferrite when hot up to 2.93 Å. Austenite (3.58–3.66 Å), copper (3.61), nickel (3.52)
and aluminium (4.05) are far away, and so are the body-centred V (3.03), Mo, W, Nb and Ta.
"""
_LEAST_A = 2.0  # Å; no metal has less: a file with less has a placeholder, or nm
_OTHER_PHASE = re.compile(
    r"austenit|γ|\bgamma\b|\b[fh]cc\b|\bhcp\b|face.?cent|fm-?3m|cementit|carbid(?!e?[- ]free)|nitrid|oxid|magnetit"
    r"|w[uü]stit|spinel|\bsigma\b|\bepsilon\b|ε",
    re.IGNORECASE,
)
"""Never ferrite, whatever else the name says."""
_OTHER_METAL = re.compile(
    r"copper|nickel|alumini?um|chromium|vanadium|cobalt|titanium|tungsten|molybden|niobium|tantal|silicon|silver|gold"
    r"|brass|\b(cu|ni|al|cr|co|ti|v|w|mo|nb|ta|si|ag|au|nial)\b",
    re.IGNORECASE,
)
"""Another metal, where the name does not name iron too: "Chromium" (a = 2.88 Å), but not "Fe-Cr"."""
_IRON = re.compile(
    r"ferrit|bainit|martensit|\biron\b|\bsteel\b|\bfe\b|\bfe[-_ (]*(alpha|α|bcc|delta|δ)|\bbcc\b|α.?fe|alpha.?(fe|iron)"
    r"|\beisen\b|stahl|im-?3m|body.?cent",
    re.IGNORECASE,
)


def is_bcc_iron(phase: Phase) -> bool | None:
    """Return whether a phase is body-centred cubic iron; None where neither lattice nor name says so.

    The lattice decides where the file has one; a name such as "Iron fcc" or "Chromium" (2.88 Å) says no in any case.
    """
    named = _IRON.search(phase.name) is not None
    if phase.laue != "m-3m" or _OTHER_PHASE.search(phase.name) or (_OTHER_METAL.search(phase.name) and not named):
        return False
    a = _a(phase)
    if a is not None:
        return abs(a - A_IRON) <= A_TOLERANCE
    return True if named else None


def judged_phases(ebsd: EBSDMap, phases: int | str | Iterable[int | str] | None) -> tuple[Phase, ...]:
    """Return the phases of a map that are judged: those named, or body-centred cubic iron.

    Raises
    ------
    InputError
        If a phase named is none of the map's, or none that has points can be ferrite.

    Warns
    -----
    BainiteWarning
        If a phase is judged that neither lattice nor name tells, or several are judged alike.
    """
    if phases is not None:
        named = (phases,) if isinstance(phases, (int, str, np.integer)) else tuple(phases)
        if not named:
            raise InputError("phases is empty; name one or more phases, or leave it out")
        return tuple(dict.fromkeys(ebsd.phase(one) for one in named))
    present = tuple(phase for phase in ebsd.phases if (ebsd.phase_id == phase.id).any())
    verdicts = [is_bcc_iron(phase) for phase in present]
    iron = tuple(phase for phase, verdict in zip(present, verdicts, strict=True) if verdict)
    if len(iron) > 1:
        warnings.warn(
            f"{_listed(iron)} are judged alike; say which ones are to be, such as phases={_reference(iron[0])!r}",
            BainiteWarning,
            stacklevel=3,
        )
    unknown = tuple(phase for phase, verdict in zip(present, verdicts, strict=True) if verdict is None)
    if iron or not present:
        return iron
    if not unknown:
        raise InputError(
            f"the map {ebsd.source or ''} has nothing to judge: {_listed(present)} cannot be ferrite or bainite, which "
            f"are body-centred cubic iron (m-3m, a = {A_IRON} ± {A_TOLERANCE} Å); if a phase is, name it: "
            f"phases={_reference(present[0])!r}"
        )
    warnings.warn(
        f"{_listed(unknown)}: neither lattice nor name says whether it is body-centred cubic iron; it is judged as if "
        f"it were; phases={_reference(unknown[0])!r} says so",
        BainiteWarning,
        stacklevel=3,
    )
    return unknown


def _a(phase: Phase) -> float | None:
    """Return the lattice parameter a in Å, None where the file has none."""
    if phase.lattice is None:
        return None
    a = phase.lattice[0]
    a = 10.0 * a if 0.2 <= a < 1.0 else a
    return a if a >= _LEAST_A else None


def _reference(phase: Phase) -> str | int:
    """Return by what `EBSDMap.phase` finds it: its name, where it has one."""
    return phase.name if phase.name.strip() else phase.id


def _listed(phases: Iterable[Phase]) -> str:
    def text(phase: Phase) -> str:
        a = _a(phase)
        return f"{phase}" if a is None else f"{phase.id} {phase.name} ({phase.laue}, a = {a:.4g} Å)"

    return ", ".join(map(text, phases))
