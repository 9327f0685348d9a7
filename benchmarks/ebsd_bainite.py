"""How well EBSD analysis finds what is in synthetic maps: lath bainite, its variants, and the noise.

Run: python benchmarks/ebsd_bainite.py [--seeds 41,42,…] > benchmarks/results/ebsd_bainite.md (ten minutes)
Everything was chosen on seeds 1–8 and 41–43; 51, 52, 61, 62, 71–78 and 101–120 were reported on before 121–140.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

import numpy as np

from bainite_fast.ebsd import (
    BainiteMap,
    BoundaryClass,
    EBSDMap,
    Grid,
    find_bainite,
    ks_bain_groups,
    ks_packets,
    noise_floor,
)
from bainite_fast.synthetic import EBSDTruth, Measurement, make_ebsd

SEEDS = tuple(range(121, 141))
STEPS = (0.1, 0.2, 0.4)
EDGE_UM = 44.0
MOST = 150  # points per side
OTHER_SEEDS = """\
Maps are small and hold few grains, so single seeds scatter. Earlier ones with the same settings, all rows together,
embedded ferrite ("unsure" as missed): seeds 71 and 72 0.996; 73–78 0.990 (lowest row 0.956; unsure 0.017, in its worst
row 0.106); 61 and 62 0.784 (lowest row 0.184), where one or two large grains decide a map: these were not looked at;
101–120 0.981 (lowest row 0.964), before parts that lie apart were judged apart. With ferrite that is bent as much as
the limit (10¹⁴ m⁻², drawn on the seeds chosen on) large grains within bainite, of a K–S variant, come out unsure or as
bainite.
"""


def grid_of(kind: str, step: float) -> Grid:
    points = min(MOST, round(EDGE_UM / step))
    make = Grid.square if kind == "square" else Grid.hexagonal
    return make(points, points, dx=step)


def counts(found: BainiteMap, truth: EBSDTruth) -> np.ndarray:
    """Right bainite, all called bainite, missed bainite, unsure, points, embedded found, embedded unsure, embedded."""
    called, lath, embedded = found.labels == 1, truth.lath_bainite, truth.embedded_ferrite
    return np.array(
        [
            (called & lath).sum(),
            called.sum(),
            ((found.labels == 0) & lath).sum(),
            (found.labels == 2).sum(),
            len(lath),
            ((found.labels == 0) & embedded).sum(),
            ((found.labels == 2) & embedded).sum(),
            embedded.sum(),
        ],
        float,
    )


def rates(total: np.ndarray) -> str:
    right, called, missed, unsure, points, found, doubtful, embedded = total
    cells = [right / called if called else np.nan, right / (right + missed) if right + missed else np.nan]
    cells += [unsure / points, found / embedded if embedded else np.nan]
    cells += [found / (embedded - doubtful) if embedded > doubtful else np.nan]
    return " | ".join("–" if np.isnan(cell) else f"{cell:.3f}" for cell in cells)


def variants(found: BainiteMap, truth: EBSDTruth) -> dict[str, np.ndarray]:
    """Classes found (counts by BoundaryClass) at boundaries between drawn variants of one parent."""
    i, j = found.borders.i, found.borders.j
    one, other = truth.variant[i] - 1, truth.variant[j] - 1
    inside = truth.lath_bainite[i] & truth.lath_bainite[j] & (one != other) & (truth.parent[i] == truth.parent[j])
    one, other, kind = one[inside], other[inside], found.borders.kind[inside]
    packets, bain = ks_packets(), ks_bain_groups()
    same_packet, same_bain = packets[one] == packets[other], bain[one] == bain[other]
    groups = {
        "one packet, two Bain groups (49.5°, 60°)": same_packet & ~same_bain,
        "one packet, one Bain group (10.5°)": same_packet & same_bain,
        "two packets, one Bain group (10.5–21.1°)": ~same_packet & same_bain,
        "two packets, two Bain groups (47.1–60°)": ~same_packet & ~same_bain,
    }
    return {name: np.bincount(kind[rows], minlength=7) for name, rows in groups.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    seeds = [int(seed) for seed in parser.parse_args().seeds.split(",")]
    rows: dict[tuple[str, str, float], np.ndarray] = defaultdict(lambda: np.zeros(8))
    by_seed: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(8))
    worst: list[tuple[float, str]] = []
    boundaries: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(7))
    for preset in ("sem", "lom"):
        for kind in ("square", "hexagonal"):
            for step in STEPS:
                for seed in seeds:
                    ebsd, truth = make_ebsd(grid_of(kind, step), preset=preset, seed=seed)
                    found = find_bainite(ebsd)
                    one = counts(found, truth)
                    rows[preset, kind, step] += one
                    by_seed[seed] += one
                    if one[1] and one[0] + one[2]:
                        worst.append(
                            (
                                min(one[0] / one[1], one[0] / (one[0] + one[2])),
                                f"{preset}, {kind}, {step} µm, seed {seed}",
                            )
                        )
                    if step < 0.4:
                        for name, number in variants(found, truth).items():
                            boundaries[name] += number
                print(preset, kind, step, rates(rows[preset, kind, step]), file=sys.stderr, flush=True)
    report(seeds, rows, by_seed, worst, boundaries)
    noise(seeds)


def report(
    seeds: list[int],
    rows: dict[tuple[str, str, float], np.ndarray],
    by_seed: dict[int, np.ndarray],
    worst: list[tuple[float, str]],
    boundaries: dict[str, np.ndarray],
) -> None:
    print("# EBSD analysis on synthetic maps with known truth\n")
    listed = f"{seeds[0]}–{seeds[-1]}" if seeds == list(range(seeds[0], seeds[-1] + 1)) else ", ".join(map(str, seeds))
    print(f"`python benchmarks/ebsd_bainite.py`, seeds {listed}.")
    print(
        "Everything was chosen on maps of seeds 1–8 and 41–43, and on other fields of the same with other noise: first"
    )
    print("the thresholds (1–4), then the parting of grains (43), then what left quiet ferrite within bainite unsure,")
    print("then (1–8) that parts of a grain which lie apart are judged apart.")
    print("Seeds 51, 52, 61, 62, 71–78 and 101–120 were reported on at earlier stages (51 and 52 were looked at, too).")
    print("Nothing was chosen or looked at on seeds 121–140: they were run once, for this table, after all choices.")
    print(f"Maps of up to {MOST} × {MOST} points and {EDGE_UM:g} µm, noise 0.4° rms; all settings are the defaults.\n")
    print("## Lath bainite against polygonal ferrite\n")
    print(
        'Precision and recall outside of "unsure", by points, all seeds of a row together. Embedded ferrite: recall of'
    )
    print('ferrite grains of whose boundary at least half meets bainite, "unsure" counted as missed, and left out.\n')
    print("| preset | grid | step µm | precision | recall | unsure | embedded ferrite | without unsure |")
    print("|---|---|---|---|---|---|---|---|")
    for (preset, kind, step), total in rows.items():
        print(f"| {preset} | {kind} | {step} | {rates(total)} |")
    print(f"| all | | | {rates(np.sum(list(rows.values()), axis=0))} |\n")
    worst.sort()
    print(
        "Lowest of precision and recall in a single map: " + "; ".join(f"{v:.3f} ({w})" for v, w in worst[:3]) + ".\n"
    )
    embedded = sorted((one[5] / one[7], seed) for seed, one in by_seed.items() if one[7])
    lowest = "; ".join(f"{share:.3f} (seed {seed})" for share, seed in embedded[:3])
    print(f'Embedded ferrite, "unsure" as missed, of one seed in all rows together: lowest {lowest}.\n')
    print(OTHER_SEEDS)
    print("## Drawn Kurdjumov–Sachs variants and the class of boundary found\n")
    print(
        "Boundaries between blocks of one parent, steps 0.1 and 0.2 µm, share by class. What occurs inside packets and"
    )
    print("between them alike (10.53°) counts as block. Blocks scatter by 1.5° about their variants, laths by 1.2°.\n")
    names = [item.name.lower() for item in BoundaryClass][1:]
    print(f"| drawn | pairs | {' | '.join(names)} |")
    print("|---|---|" + "---|" * len(names))
    for name, number in boundaries.items():
        shares = " | ".join(f"{value:.3f}" for value in number[1:] / max(1.0, number.sum()))
        print(f"| {name} | {int(number.sum())} | {shares} |")
    print()


def noise(seeds: list[int]) -> None:
    print("## Noise floor\n")
    print(
        "Noise found over noise drawn (0.2, 0.4 and 0.8° rms), median over maps and range, by the share of bainite.\n"
    )
    print("| grid | step µm | bainite up to 90 %: maps | median | range | above 90 %: maps | median | range |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("square", "hexagonal"):
        for step in STEPS:
            mixed, bent = [], []
            for seed in seeds:
                for true in (0.2, 0.4, 0.8):
                    ebsd, truth = noisy(kind, step, seed, true)
                    ratio = noise_floor(ebsd, resamples=100).noise / true
                    (mixed if truth.lath_bainite.mean() <= 0.9 else bent).append(ratio)
            cells = " | ".join(
                f"{len(part)} | {np.median(part):.3f} | {min(part):.3f}–{max(part):.3f}" if part else "0 | – | –"
                for part in (mixed, bent)
            )
            print(f"| {kind} | {step} | {cells} |", flush=True)


def noisy(kind: str, step: float, seed: int, true: float) -> tuple[EBSDMap, EBSDTruth]:
    return make_ebsd(grid_of(kind, step), preset="sem", seed=seed, measurement=Measurement(noise=true))


if __name__ == "__main__":
    main()
