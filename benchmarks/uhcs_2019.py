#!/usr/bin/env python
"""The published six folds of the 2019 UHCS labels, each trained from random weights: a table with the published scores.

python benchmarks/uhcs_2019.py --data UHCS --work WORK

The recipe is the first stage of the model `uhcs` (``tools/uhcs/first.yaml``), smaller and shorter; nothing was chosen
on these labels. Published: PixelNet of DeCost et al., Microsc. Microanal. 25 (2019) 21. Finished folds are kept in
``--work``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import bainite_fast
from bainite_fast import kernels

CLASSES = ("matrix", "carbide network", "spheroidite", "Widmanstätten cementite")
PUBLISHED = {"matrix": 49.1, "carbide network": 72.9, "spheroidite": 85.7, "Widmanstätten cementite": 42.7}
PUBLISHED_MEAN = 62.6
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Train the folds that are missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("uhcs-2019"))
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=24)
    options = parser.parse_args()
    kernels.tune_allocator()
    torch.set_num_threads(1)
    done = bainite_fast.cross_validate(
        ROOT / "tools" / "uhcs" / "first.yaml",
        options.data / "images",
        options.data / "labels_decost2019",
        options.work,
        split=options.data / "decost_6fold_validation_sets.json",
        classes=CLASSES,
        epochs=options.epochs,
        # The labels weigh the classes otherwise than those of 2022 do.
        changes={
            "network.base": options.width,
            "loss": {
                "kind": "sum",
                "terms": [
                    {"weight": 1.0, "loss": {"kind": "cross_entropy", "class_weights": "sqrt"}},
                    {"weight": 0.5, "loss": {"kind": "dice"}},
                ],
            },
        },
        tiles=None,
        progress=lambda line: print(line, flush=True),
    )
    iou = np.array([[fold.whole.iou[name] for name in CLASSES] for fold in done.folds])
    means = iou.mean(axis=1)
    lines = [
        "# UHCS, labels of 2019, the published six folds",
        "",
        f"`python benchmarks/uhcs_2019.py --data UHCS`: vanilla U-Net of base {options.width}, {options.epochs} "
        "epochs, random weights; whole images; mean ± standard deviation over the folds. Published: PixelNet of DeCost "
        "et al. (2019).",
        "",
        "| class | IoU, % | published |",
        "|---|---|---|",
    ]
    for i, name in enumerate(CLASSES):
        lines.append(
            f"| {name} | {100 * iou[:, i].mean():.1f} ± {100 * iou[:, i].std(ddof=1):.1f} | {PUBLISHED[name]} |"
        )
    lines.append(f"| mean | {100 * means.mean():.1f} ± {100 * means.std(ddof=1):.1f} | {PUBLISHED_MEAN} |")
    (RESULTS / "uhcs_2019.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "uhcs_2019.json").write_text(json.dumps({"classes": CLASSES, "iou": iou.tolist()}, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
