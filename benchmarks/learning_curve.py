#!/usr/bin/env python
"""What pretraining on synthetic steel buys: mean IoU over the number of training images, in two settings.

    python benchmarks/learning_curve.py                  # drawn images only; some twenty minutes on one core
    python benchmarks/learning_curve.py --images DIR --masks DIR --split FILE --recipe FILE --init PACKAGE

Drawn images: a small U-Net is pretrained on the preset `lom`, then fine-tuned on 1 … 16 images of `lom_contrast`, the
same kind of steel under a tint etchant, and compared with the same network from random weights after as many steps.
Scores are the validation mean IoU of the last weights, on images that no run trains on. With folders, the same is done
on a user's images, from a user's package.

Tables go to ``results/learning_curve.md`` and ``.json``; what is trained stays in ``--work``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from bainite_fast import kernels
from bainite_fast.synthetic import CLASSES, get_preset, make
from bainite_fast.training import LearningCurve, learning_curve, read_recipe, train
from bainite_fast.training.dataset import Dataset, array_dataset, read_dataset

EDGE, PRETRAINING, POOL, UNSEEN = 256, 24, 16, 6
RESULTS = Path(__file__).parent / "results"

RECIPE: dict[str, Any] = {
    "name": "learning-curve",
    "data": {"crop": 96, "crops_per_image": 4},
    "network": {"kind": "unet", "base": 8, "depth": 3},
    "loss": {"kind": "focal", "alpha": 1.5, "gamma": 2.0},
    "optimiser": {"kind": "adam", "learning_rate": 2e-3},
    "schedule": {"kind": "one_cycle"},
    "batch": 8,
    "epochs": 48,
    "augmentation": {"flips": True, "quarter_turns": True, "brightness": 0.1, "contrast": 0.2, "gamma": 0.2},
    "validation": {"keep": "last", "every": 1000},
}


def draw(preset: str, first_seed: int, images: int) -> Dataset:
    """Draw images of a preset that hold both phases."""
    pairs, seed = [], first_seed
    while len(pairs) < images:
        image, mask = make((EDGE, EDGE), preset=preset, seed=seed)
        seed += 1
        if 0.05 < mask.mean() < 0.95:
            pairs.append((image, mask))
    um = get_preset(preset).um_per_px
    return array_dataset([image for image, _ in pairs], [mask for _, mask in pairs], classes=CLASSES, um_per_px=um)


def drawn_curve(args: argparse.Namespace) -> LearningCurve:
    """Pretrain on `lom`, then trace the curve on `lom_contrast`."""
    changes = {"epochs": 3 * args.epochs if args.epochs else 48}
    pretrained = train(
        RECIPE, draw("lom", 7_000_000, PRETRAINING), out=args.work / "pretrained", changes=changes, resume=True
    )
    print(f"pretrained: loss {pretrained.history[-1]['loss']:.4f}", flush=True)
    data = draw("lom_contrast", 7_500_000, POOL + UNSEEN)
    split = {"train": list(data.names[:POOL]), "validation": list(data.names[POOL:])}
    recipe = read_recipe(RECIPE, changes={"epochs": args.epochs} if args.epochs else {})
    return learning_curve(
        recipe, data, args.work / "curve", init=pretrained.package, split=split, counts=args.counts,
        seeds=range(args.seeds), progress=tell,
    )  # fmt: skip


def own_curve(args: argparse.Namespace) -> LearningCurve:
    """Trace the curve on a user's images."""
    data = read_dataset(args.images, args.masks)
    recipe = read_recipe(args.recipe, changes={"epochs": args.epochs} if args.epochs else {})
    return learning_curve(
        recipe, data, args.work / "curve", init=args.init, split=args.split, counts=args.counts,
        seeds=range(args.seeds), progress=tell,
    )  # fmt: skip


def tell(point: Any) -> None:
    """Print a point."""
    print(f"{point.images:3} images, {point.start}, seed {point.seed}: {100 * point.score:.2f} %", flush=True)


def main() -> None:
    """Trace a curve and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("learning-curve"))
    parser.add_argument("--epochs", type=int, help="of the run on the most images; the recipe's by default")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    for name in ("images", "masks", "split", "init", "recipe"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="more are faster, with other last bits")
    args = parser.parse_args()
    kernels.tune_allocator()
    torch.set_num_threads(args.threads)
    own = args.images is not None
    curve = own_curve(args) if own else drawn_curve(args)
    points = [
        {"images": p.images, "start": p.start, "seed": p.seed, "mean_iou": round(p.score, 6)} for p in curve.points
    ]
    what = f"`{args.images}` from `{args.init}`" if own else "`lom_contrast`, pretrained on `lom`"
    text = f"# Learning curve\n\nValidation mean IoU on {what}; {args.seeds} seed(s).\n\n{curve.table()}\n"
    out = args.work if own else RESULTS
    (out / "learning_curve.md").write_text(text)
    values = {"recipe": str(args.recipe) if own else RECIPE, "points": points}
    (out / "learning_curve.json").write_text(json.dumps(values, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
