#!/usr/bin/env python
"""Train the model `uhcs` in the box, from random weights, on the 2022 labels of the UHCS micrographs.

    python tools/train_uhcs.py --data UHCS --work WORK --out python/bainite_fast/models/bundled/uhcs

`UHCS` holds ``images``, ``labels`` and the published split: ``train16A.txt``, ``validate4A.txt``, ``test4A.txt``. Two
stages (``tools/uhcs/*.yaml``): the second goes on from the first with a lower learning rate, and with a quarter of its
crops laid round pixels of rare classes. Each stage keeps the epoch that is best on the validation images. The test
images are scored once, at the end, and decide nothing. Takes about an hour on one core, and can be resumed.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

import bainite_fast
from bainite_fast import kernels
from bainite_fast.evaluation import Scores
from bainite_fast.models import Score, load, save_package
from bainite_fast.synthetic import make
from bainite_fast.training import TrainingRun, train

CLASSES = ("matrix", "carbide network", "spheroidite", "Widmanstätten cementite")
RECIPES = Path(__file__).with_name("uhcs")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "uhcs"
SPLIT = {"train": "train16A.txt", "validation": "validate4A.txt", "test": "test4A.txt"}
PUBLISHED = {"validation": 0.829, "test": 0.813}  # U-Net with ImageNet's VGG16, one run; notebook of MatSeg

CARD_DATA = (
    "16 training and 4 validation micrographs of ultrahigh-carbon steel (SEM, 645 × 484 px), the published split "
    "16A/4A of the labels of 2022. Micrographs: Hecht, DeCost, Francis, Holm, Picard, Webler, 'Ultrahigh carbon steel "
    "micrographs', CC BY 3.0 US; cite DeCost et al., Integr. Mater. Manuf. Innov. 6 (2017) 197, "
    "doi 10.1007/s40192-017-0097-0, and Microsc. Microanal. 25 (2019) 21, doi 10.1017/S1431927618015635. Labels: "
    "© 2019 Bo Lei (MatSeg), MIT"
)


def stage(name: str, data: Path, work: Path, init: Path | None) -> TrainingRun:
    """Train one stage, or go on with it."""
    return train(
        RECIPES / f"{name}.yaml",
        data / "images",
        data / "labels",
        work / name,
        split={part: data / file for part, file in SPLIT.items()},
        classes=CLASSES,
        init=init,
        name="uhcs",
        resume=True,
        progress=lambda p: print(p, flush=True) if p.scores else None,
    )


def rows(scores: dict[str, Scores]) -> list[str]:
    """Return the table of scores as Markdown."""
    lines = [
        "| images | mean IoU | " + " | ".join(CLASSES) + " | accuracy | published mean IoU |",
        "|---|---|" + "---|" * (len(CLASSES) + 2),
    ]
    for part, found in scores.items():
        ious = " | ".join(f"{found.iou[name]:.3f}" for name in CLASSES)
        lines.append(f"| {part} | {found.mean_iou:.4f} | {ious} | {found.accuracy:.4f} | {PUBLISHED[part]:.3f} |")
    return lines


def main() -> None:
    """Train, score and pack the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("train_uhcs"))
    parser.add_argument("--out", type=Path, required=True, help="package folder to write")
    parser.add_argument("--threads", type=int, default=1, help="more are faster, with other last bits")
    options = parser.parse_args()
    kernels.tune_allocator()
    torch.set_num_threads(options.threads)
    first = stage("first", options.data, options.work, None)
    second = stage("second", options.data, options.work, first.package)

    loaded = load(second.package)
    scores = {
        part: bainite_fast.evaluate(
            loaded, options.data / "images", options.data / "labels", names=options.data / SPLIT[part]
        )
        for part in ("validation", "test")
    }
    contract, config = loaded.contract, loaded.config
    # Drawn, for no picture of the data set goes into the package; small, for its logits weigh 16 times as much.
    image, _ = make((64, 64), preset="sem", seed=0)
    save_package(
        loaded.module,
        options.out,
        name="uhcs",
        classes=CLASSES,
        test_input=image,
        normalize=(contract.mean, contract.std),
        description="ultrahigh-carbon steel, SEM: matrix, carbide network, spheroidite, Widmanstätten cementite",
        training={"data": CARD_DATA, "script": "tools/train_uhcs.py", "torch": torch.__version__},
        recipe=config.recipe,
        scores=[
            Score(metric=metric, value=round(value, 4), class_name=name, data=f"4 {part} images of the published split")
            for part, found in scores.items()
            for metric, name, value in (
                ("mean IoU", None, found.mean_iou),
                *(("IoU", name, found.iou[name]) for name in CLASSES),
                ("accuracy", None, found.accuracy),
            )
        ],
        overwrite=True,
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    for run in (first, second):
        shutil.copy(run.out / "metrics.csv", RESULTS / f"{run.out.name}.csv")
        shutil.copy(run.out / "curve.png", RESULTS / f"{run.out.name}.png")
    values = {
        part: {"mean_iou": s.mean_iou, "accuracy": s.accuracy, "iou": {n: s.iou[n] for n in CLASSES}}
        for part, s in scores.items()
    }
    (RESULTS / "scores.json").write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    text = [
        "# UHCS, labels of 2022, published split",
        "",
        "`tools/train_uhcs.py`: U-Net of base 16 from random weights, two stages, chosen on the validation images; the "
        "test images were scored once. Published: U-Net with ImageNet's VGG16 (MatSeg), one run.",
        "",
        *rows(scores),
    ]
    (RESULTS / "README.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
