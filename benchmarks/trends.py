#!/usr/bin/env python
"""Trends of Durmaz et al. (2021) that the software must be able to show, on synthetic steel.

    python benchmarks/trends.py                  # some 20 minutes on one core
    python benchmarks/trends.py --epochs 1 --images 4 --test-images 2   # only to see it run

1. Evaluation on whole images beats evaluation on tiles, most at small tiles (Fig. 2a): networks, trained on tiles, are
   scored on unseen images whole and on tiles of 32 … 256 px, each alone with the network's own padding.
2. Augmentation closes part of a contrast shift (Fig. 4): trained on the preset `lom`, tested on `lom_contrast` (the
   same microstructure under a tint etchant), without augmentation of gray values and with it, for several seeds.

What is trained is kept in ``--work``; the tables go to ``results/trends.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bainite_fast import kernels
from bainite_fast.evaluation import Scores, evaluate
from bainite_fast.synthetic import CLASSES, get_preset, make
from bainite_fast.training import train
from bainite_fast.training.dataset import Dataset, array_dataset

EDGE, TILE = 512, 128
SIZES = (32, 64, 128, 256)
TRAINING_SEED, TEST_SEED = 5_000_000, 5_500_000
RESULTS = Path(__file__).parent / "results"
FOREGROUND = CLASSES[1]

RECIPE: dict[str, Any] = {
    "name": "trends",
    "data": {"tile": TILE},
    "network": {"kind": "unet", "base": 8, "depth": 4},
    "loss": {"kind": "focal", "alpha": 1.5, "gamma": 2.0},
    "optimiser": {"kind": "adam", "learning_rate": 4e-3},
    "schedule": {"kind": "one_cycle"},
    "batch": 16,
    "augmentation": {"flips": True, "quarter_turns": True},
    "validation": {"keep": "last"},
}
GRAY_VALUES = {
    "augmentation.probability": 0.9,
    "augmentation.brightness": 0.3,
    "augmentation.contrast": 0.8,
    "augmentation.gamma": 0.5,
}


def draw(preset: str, first_seed: int, images: int) -> Dataset:
    """Draw images of a preset."""
    pairs = [make((EDGE, EDGE), preset=preset, seed=first_seed + i) for i in range(images)]
    um = get_preset(preset).um_per_px
    return array_dataset([image for image, _ in pairs], [mask for _, mask in pairs], classes=CLASSES, um_per_px=um)


def trained(data: Dataset, work: Path, args: argparse.Namespace, seed: int, augmented: bool) -> Path:
    """Train one network, or find it trained, and return its package."""
    out = work / f"seed{seed}-{'augmented' if augmented else 'plain'}"
    run = train(
        RECIPE, data, out=out, epochs=args.epochs, seed=seed, changes=GRAY_VALUES if augmented else {},
        device=args.device, resume=True,
    )  # fmt: skip
    print(f"{out.name}: loss {run.history[-1]['loss']:.4f} after {args.epochs} epochs", flush=True)
    return run.package


def tiles_against_whole(packages: list[Path], test: Dataset) -> list[dict[str, Any]]:
    """Return the foreground IoU on tiles of every size and on whole images, mean over the networks."""
    whole = [evaluate(package, test).iou[FOREGROUND] for package in packages]
    rows = []
    for size in SIZES:
        on_tiles = [evaluate(package, test, tiles=size).iou[FOREGROUND] for package in packages]
        gain = np.subtract(whole, on_tiles)
        rows.append({"tile": size, "on_tiles": np.mean(on_tiles), "whole": np.mean(whole), "gain": gain.tolist()})
    return rows


def contrast_shift(packages: dict[bool, list[Path]], home: Dataset, away: Dataset) -> list[dict[str, Any]]:
    """Return scores at home and under the other etching, without and with augmentation of gray values."""
    rows = []
    for augmented, models in packages.items():
        for name, data in (("lom", home), ("lom_contrast", away)):
            scores: list[Scores] = [evaluate(model, data) for model in models]
            rows.append(
                {
                    "augmented": augmented,
                    "tested_on": name,
                    "iou": [one.iou[FOREGROUND] for one in scores],
                    "fraction_error": [one.fraction_errors[FOREGROUND] for one in scores],
                }
            )
    return rows


def lines(found: dict[str, Any]) -> list[str]:
    """Return the tables as Markdown, with what they show."""
    setting, sizes, shift = found["setting"], found["tiles"], found["shift"]
    smallest, largest = np.mean(sizes[0]["gain"]), np.mean(sizes[-1]["gain"])
    by = {(row["augmented"], row["tested_on"]): float(np.mean(row["iou"])) for row in shift}
    gap = by[False, "lom"] - by[False, "lom_contrast"]
    closed = (by[True, "lom_contrast"] - by[False, "lom_contrast"]) / gap if gap > 0 else float("nan")
    return [
        "# Trends on synthetic steel",
        "",
        f"Vanilla U-Net, base 8, {setting['epochs']} epochs on {setting['images']} images of {EDGE} × {EDGE} px, tiles "
        f"of {TILE} px, {setting['seeds']} seed(s); tested on {setting['test_images']} others. IoU of {FOREGROUND}. "
        "`python benchmarks/trends.py`.",
        "",
        "## Whole images against tiles",
        "",
        "| tile, px | IoU on tiles | IoU on whole images | gain |",
        "|---|---|---|---|",
        *(f"| {r['tile']} | {r['on_tiles']:.4f} | {r['whole']:.4f} | {np.mean(r['gain']):+.4f} |" for r in sizes),
        "",
        f"Whole images are {'better' if min(np.mean(r['gain']) for r in sizes) > 0 else 'not always better'}; the gain "
        f"is {smallest:+.4f} at {sizes[0]['tile']} px and {largest:+.4f} at {sizes[-1]['tile']} px.",
        "",
        "## A contrast shift",
        "",
        "| augmentation of gray values | tested on | IoU | error of the phase fraction |",
        "|---|---|---|---|",
        *(
            f"| {'yes' if r['augmented'] else 'no'} | {r['tested_on']} | {np.mean(r['iou']):.4f} | "
            f"{np.mean(r['fraction_error']):+.2%} |"
            for r in shift
        ),
        "",
        f"The shift costs {gap:.4f} IoU without augmentation; augmentation brings back {closed:.0%} of it.",
    ]


def main() -> None:
    """Train what is not trained, score, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("trends"), help="where networks are kept")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--test-images", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1, help="more are faster, with other last bits")
    args = parser.parse_args()
    kernels.tune_allocator()
    torch.set_num_threads(args.threads)
    source = draw("lom", TRAINING_SEED, args.images)
    home, away = (draw(preset, TEST_SEED, args.test_images) for preset in ("lom", "lom_contrast"))
    packages = {
        augmented: [trained(source, args.work, args, seed, augmented) for seed in range(args.seeds)]
        for augmented in (False, True)
    }
    setting = {key: getattr(args, key) for key in ("epochs", "images", "test_images", "seeds")}
    found = {
        "setting": {**setting, "recipe": RECIPE, "gray_values": GRAY_VALUES},
        "tiles": tiles_against_whole(packages[False], home),
        "shift": contrast_shift(packages, home, away),
    }
    args.out.mkdir(exist_ok=True)
    (args.out / "trends.json").write_text(json.dumps(found, indent=2) + "\n")
    (args.out / "trends.md").write_text("\n".join(lines(found)) + "\n")
    print((args.out / "trends.md").read_text())


if __name__ == "__main__":
    main()
