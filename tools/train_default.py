#!/usr/bin/env python
"""Train the bundled model `lath-bainite-synthetic` on drawn steel: the default of `segment`.

    python tools/train_default.py --out python/bainite_fast/models/bundled/lath-bainite-synthetic

The network sees light-optical pictures at 0.1266 µm/px, and scanning-electron pictures brought to the same scale by
area averaging; it has seen no real steel. Every other picture has the harder arrangement of
`benchmarks/synthetic_bench.py`: more ferrite embedded in bainite, more bainite islands, more granular second phase. The
recipe is `tools/lath_bainite/recipe.yaml`. Takes half an hour on one core, and can be resumed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bainite_fast import kernels
from bainite_fast.evaluation import Scores, evaluate
from bainite_fast.models import Score, load, save_package
from bainite_fast.synthetic import CLASSES, Preset, get_preset, make
from bainite_fast.training import train
from bainite_fast.training.dataset import ArrayDataset, array_dataset

NAME = "lath-bainite-synthetic"
UM_PER_PX = 0.1266
SHARES = {"lom": 0.52, "lom_contrast": 0.20, "sem": 0.16, "sem_contrast": 0.12}
PICTURES, EDGE = 480, 512  # px at the model's scale
SEEDS = {"train": 1_000_000, "validation": 2_000_000, "test": 3_000_000}
TEST_EDGE = 256  # px, of the package's test input
RECIPE = Path(__file__).parent / "lath_bainite" / "recipe.yaml"


def harder(preset: Preset) -> Preset:
    """Return the preset with more ferrite inside bainite, more bainite outside, and more granular second phase."""
    inside, outside = 0.60, 0.06
    share = min(1.0, (preset.bainite_fraction - outside) / (inside - outside))
    return replace(
        preset, bainite_inside=inside, bainite_outside=outside, region_share=share, granular_share=0.95
    )  # fmt: skip


def draw(name: str, seed: int, edge: int, *, hard: bool, seams: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture at the model's scale and its mask: uint8 [edge, edge] each."""
    preset = harder(get_preset(name)) if hard else get_preset(name)
    scale = preset.um_per_px / UM_PER_PX
    if abs(scale - 1.0) < 0.02:
        return make((edge, edge), preset=preset, seed=seed, seams=seams)
    full = int(np.ceil(edge / scale))
    image, mask = make((full, full), preset=preset, seed=seed)
    small = np.rint(kernels.resample(image, (edge, edge))).astype(np.uint8)
    return small, (kernels.resample(mask, (edge, edge)) > 0.5).astype(np.uint8)


def data_set(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> ArrayDataset:
    """Return drawn pictures as a data set."""
    images, masks = zip(*pairs.values(), strict=True)
    return array_dataset(images, masks, names=list(pairs), classes=CLASSES, um_per_px=UM_PER_PX)


def training_data(work: Path) -> ArrayDataset:
    """Draw the pictures, or read them from `work`: training pictures, then one for validation of every kind."""
    store = work / "pictures.npz"
    if not store.exists():
        pairs = {}
        for name, share in SHARES.items():
            for i in range(round(share * PICTURES)):
                seed = SEEDS["train"] + len(pairs)
                pairs[f"train {name} {i}"] = draw(name, seed, EDGE, hard=i % 2 == 1, seams=i % 4 == 0)
            print(f"drew the pictures of {name}", flush=True)
        for name in SHARES:
            for hard in (False, True):
                pairs[f"validation {name}{' hard' if hard else ''}"] = draw(name, SEEDS["validation"], 1024, hard=hard)
        arrays = {f"{key}/{part}": value for key, pair in pairs.items() for part, value in zip("im", pair, strict=True)}
        np.savez(work / "pictures.partial.npz", **arrays)
        (work / "pictures.partial.npz").replace(store)
    with np.load(store) as arrays:
        names = [key[:-2] for key in arrays if key.endswith("/i")]
        return data_set({name: (arrays[f"{name}/i"], arrays[f"{name}/m"]) for name in names})


def test_scores(model: Path) -> dict[str, Scores]:
    """Score a mosaic of every kind, of a seed that the training did not use."""
    found = {}
    for name in SHARES:
        for hard in (False, True):
            pair = draw(name, SEEDS["test"], 2048, hard=hard)
            key = f"{name}{', harder arrangement' if hard else ''}"
            found[key] = evaluate(model, data_set({key: pair}), tolerance=2)
            print(f"{key}: IoU {found[key].iou[CLASSES[1]]:.4f}", flush=True)
    return found


def score_list(found: dict[str, Scores]) -> list[Score]:
    """Return the scores as the package keeps them."""
    name = CLASSES[1]
    return [
        Score(metric=metric, value=round(value, 4), class_name=of, data=f"drawn mosaic of 2048 × 2048 px, {kind}")
        for kind, one in found.items()
        for metric, of, value in (
            ("IoU", name, one.iou[name]),
            ("mean IoU", None, one.mean_iou),
            ("phase-fraction error", name, one.fraction_errors[name]),
        )
    ]


def main() -> None:
    """Train, calibrate, score and pack the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="package folder to write")
    parser.add_argument("--work", type=Path, default=Path("train_default"), help="folder for pictures and run")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1, help="more are faster, with other last bits")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    kernels.tune_allocator()
    torch.set_num_threads(options.threads)
    data = training_data(options.work)
    split = {part: [n for n in data.names if n.startswith(part)] for part in ("train", "validation")}
    run = train(
        RECIPE, data, out=options.work / "run", split=split, epochs=options.epochs, name=NAME, resume=True,
        progress=lambda p: print(p, flush=True) if p.scores else None,
    )  # fmt: skip
    validation = data.subset([i for i, name in enumerate(data.names) if name in split["validation"]])
    calibration = evaluate(run.package, validation, calibrate=True).calibration
    loaded = load(run.package)
    image, _ = draw("lom", SEEDS["test"] + 1, TEST_EDGE, hard=False)
    drawn = f"{PICTURES} drawn pictures of {EDGE} × {EDGE} px: " + ", ".join(f"{n} {s:.0%}" for n, s in SHARES.items())
    save_package(
        loaded.module,
        options.out,
        name=NAME,
        classes=CLASSES,
        test_input=image,
        um_per_px=UM_PER_PX,
        normalize=(loaded.contract.mean, loaded.contract.std),
        description=run.recipe.description,
        training={"data": f"{drawn}; every other one in a harder arrangement", "script": "tools/train_default.py",
                  "torch": torch.__version__},
        recipe=loaded.config.recipe,
        scores=score_list(test_scores(run.package)),
        temperature=calibration.temperature,
        synthetic_only=True,
        overwrite=True,
    )  # fmt: skip
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
