"""The trainer's parts: batches, learning rates, averages, precision, checkpoints, whole-image labels."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bainite_fast.errors import BainiteWarning, DeviceError, JournalError, ModelError, OutputError
from bainite_fast.models import Reach, UNet, probe
from bainite_fast.training import checkpoint
from bainite_fast.training.batches import Batches, measure_intensities
from bainite_fast.training.dataset import array_dataset
from bainite_fast.training.hardware import Hardware, choose_hardware, determinism
from bainite_fast.training.loop import validations_without_rise
from bainite_fast.training.optimise import MovingAverage, learning_rate, make_optimiser
from bainite_fast.training.predict import predict
from bainite_fast.training.prepare import held, part_indices
from bainite_fast.training.recipe import OptimiserRecipe, ScheduleRecipe
from bainite_fast.training.start import named_after
from bainite_fast.training.tiles import tile_dataset
from property_helpers import examples
from segment_helpers import save_small_package, small_unet
from training_helpers import blobs, small

CPU = Hardware(torch.device("cpu"), "float32")


@given(st.integers(0, 1000), st.integers(0, 5), st.integers(1, 7), st.integers(1, 5))
@examples(30)
def test_crops_are_where_they_say_and_every_image_comes_as_often_as_asked(
    seed: int, epoch: int, size: int, repeats: int
) -> None:
    data = blobs(3, (40, 50))
    batches = Batches(data, small(seed=seed, batch=size, data__crops_per_image=repeats), 2)
    assert batches.steps == -(-3 * repeats // size)
    seen: list[str] = []
    for index in range(batches.steps):
        batch = batches.batch(epoch, index)
        seen += batch.names
        for image, mask, name, (y, x) in zip(batch.images, batch.masks, batch.names, batch.corners, strict=True):
            i = data.names.index(name)
            window = slice(y, y + 32), slice(x, x + 32)
            np.testing.assert_array_equal(mask.numpy(), data.mask(i)[window])
            np.testing.assert_array_equal((image[0] * 255).round().numpy(), data.image(i)[window])
        again = Batches(data, small(seed=seed, batch=size, data__crops_per_image=repeats), 2).batch(epoch, index)
        assert torch.equal(again.images, batch.images) and torch.equal(again.masks, batch.masks)
    assert sorted(seen) == sorted(list(data.names) * repeats)


def test_crops_reach_every_corner_and_epochs_differ() -> None:
    batches = Batches(blobs(1, (34, 33)), small(data__crops_per_image=64, batch=64), 2)
    corners = {corner for epoch in range(3) for corner in batches.batch(epoch, 0).corners}
    assert corners == {(y, x) for y in range(3) for x in range(2)}
    assert batches.batch(0, 0).corners != batches.batch(1, 0).corners


def test_crops_on_classes_show_rare_ones() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[150:153, 20:23] = 1
    mask[:, 180:] = 255
    data = array_dataset([np.arange(200, dtype=np.uint8)[None].repeat(200, 0)], [mask], classes=2)

    def seen(share: float) -> tuple[float, list[tuple[int, int]]]:
        recipe = small(data__crops_per_image=200, batch=200, data__crops_on_classes=share)
        batch = Batches(data, recipe, 2).batch(0, 0)
        for found, (y, x) in zip(batch.masks, batch.corners, strict=True):
            np.testing.assert_array_equal(found.numpy(), mask[y : y + 32, x : x + 32])
        with_class = batch.masks.flatten(1).eq(1).any(dim=1)
        return float(with_class.float().mean()), [c for c, has in zip(batch.corners, with_class, strict=True) if has]

    assert seen(0.0)[0] < 0.1
    assert seen(0.5)[0] == pytest.approx(0.25 + 0.02, abs=0.08)
    share, corners = seen(1.0)
    assert share == pytest.approx(0.5, abs=0.1)
    assert len(set(corners)) > 50  # the pixel is anywhere in its crop


def test_as_many_crops_as_cover_an_image() -> None:
    data = array_dataset(
        [np.zeros((64, 96), np.uint8), np.ones((32, 32), np.uint8)],
        [np.eye(64, 96, dtype=np.uint8), np.eye(32, dtype=np.uint8)],
    )
    assert Batches(data, small(data__crops_per_image=None), 2).repeats == [6, 1]


def test_small_images_are_mirrored_up_to_the_crop_and_whole_ones_to_the_stride() -> None:
    data = blobs(1, (20, 26))
    batch = Batches(data, small(), 2).batch(0, 0)
    expected = np.pad(data.image(0), ((0, 12), (0, 6)), mode="reflect")
    np.testing.assert_array_equal((batch.images[0, 0] * 255).round().numpy(), expected)
    np.testing.assert_array_equal(batch.masks[0].numpy(), np.pad(data.mask(0), ((0, 12), (0, 6)), mode="reflect"))
    whole = Batches(data, small(data__crop=None, data__crops_per_image=None), 8).batch(0, 0)
    assert whole.images.shape == (1, 1, 24, 32)


def test_intensities_of_gray_and_colour() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    masks = [np.eye(20, dtype=np.uint8)] * 2
    found = measure_intensities(array_dataset(list(colour), masks, gray=False))
    assert found.mean == pytest.approx((colour / 255).mean(axis=(0, 1, 2)).tolist())
    assert found.std == pytest.approx((colour / 255).std(axis=(0, 1, 2)).tolist())
    assert found.window == (0.0, 1.0)
    with pytest.warns(BainiteWarning, match=r"reach 819, and uint16 intensities are taken as 0…65535"):
        measure_intensities(array_dataset([np.arange(4, dtype=np.uint16).reshape(2, 2) * 273], [np.eye(2, dtype=int)]))
    floats = [image[..., 0].astype(np.float32) * 10 - 5 for image in colour]
    assert measure_intensities(array_dataset(floats, masks)).window == (
        min(map(np.min, floats)),
        max(map(np.max, floats)),
    )


def test_tiles_are_held_in_memory_as_they_are() -> None:
    tiles = tile_dataset(blobs(2), 32, scale=0.5, scale_when="after")
    kept = held(tiles)
    assert len(kept) == len(tiles) and kept.names == tiles.names and kept.um_per_px == tiles.um_per_px
    for i in range(len(tiles)):
        np.testing.assert_array_equal(kept.image(i), tiles.image(i))
        np.testing.assert_array_equal(kept.mask(i), tiles.mask(i))


def test_parts_of_tiles_go_by_micrograph() -> None:
    tiles = tile_dataset(blobs(3), 32)
    train, validation = part_indices(tiles, {"train": ["image 0", "image 2"], "validation": ["image 1"]})
    assert {tiles.names[i].partition(" @")[0] for i in train} == {"image 0", "image 2"}
    assert {tiles.names[i].partition(" @")[0] for i in validation} == {"image 1"}
    assert part_indices(tiles, None) == (tuple(range(len(tiles))), ())


def test_encoder_weights_come_from_where_the_recipe_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bainite_fast import models
    from bainite_fast.training.start import start_network

    asked: list[Any] = []
    monkeypatch.setattr(models, "load_imagenet", lambda network, source: asked.append((type(network), source)))
    intensities = measure_intensities(blobs(1))
    file = tmp_path / "vgg16.safetensors"
    file.write_bytes(b"")
    vgg = {"network__kind": "vgg16_unet", "network__base": 2}
    for weights, source in (("imagenet", None), (str(file), file)):
        start = start_network(
            small(**vgg, network__weights=weights), None, channels=1, classes=2, intensities=intensities
        )
        assert asked.pop() == (models.VGG16UNet, source)
        assert (start.mean, start.std) == ((0.0,), (1.0,))  # ImageNet's are inside
        assert "VGG16 encoder from" in start.origin
    with pytest.raises(ModelError, match="set kind: vgg16_unet"):
        start_network(small(network__weights=str(file)), None, channels=1, classes=2, intensities=intensities)
    start = start_network(small(normalize=[0.4, 0.2]), None, channels=3, classes=2, intensities=intensities)
    assert (start.mean, start.std) == ((0.4,) * 3, (0.2,) * 3)
    assert asked == []


STEPS = 40


def torch_rates(make: Any) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make(optimiser)
    rates = []
    for _ in range(STEPS):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("minimum", [0.0, 0.1])
def test_learning_rates_against_pytorch(minimum: float) -> None:
    optimiser = OptimiserRecipe(learning_rate=0.1)
    lr = torch.optim.lr_scheduler

    def mine(**values: Any) -> list[float]:
        return [learning_rate(optimiser, ScheduleRecipe(minimum=minimum, **values), i, STEPS) for i in range(STEPS)]

    assert mine(kind="constant") == [0.1] * STEPS
    cosine = torch_rates(lambda o: lr.CosineAnnealingLR(o, STEPS, eta_min=0.1 * minimum))
    assert mine(kind="cosine") == pytest.approx(cosine, rel=1e-6)
    # PyTorch's one-cycle begins and ends at a step, ours between steps: the same curve for one step more.
    cycle = torch_rates(
        lambda o: lr.OneCycleLR(o, 0.1, STEPS + 1, pct_start=13 / 41, final_div_factor=1 / (25 * minimum or 25e-9))
    )
    found = mine(kind="one_cycle")
    assert max(found) == pytest.approx(0.1) and found.index(max(found)) == 12
    assert found[:13] == pytest.approx(cycle[:13], rel=1e-6)
    assert found[13:] == pytest.approx(cycle[13:], abs=1e-6)


def test_warm_up_is_linear_and_ends_at_the_largest() -> None:
    rates = [
        learning_rate(OptimiserRecipe(learning_rate=1.0), ScheduleRecipe(kind="cosine", warm_up=0.1), i, STEPS)
        for i in range(STEPS)
    ]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a > b for a, b in zip(rates[4:], rates[5:], strict=False))


def test_moving_average_follows_and_copies_statistics() -> None:
    network = UNet(1, 2, base=2, depth=1)
    average = MovingAverage(network, 0.99)
    first = network.head.weight.detach().clone()
    with torch.no_grad():
        network.head.weight.add_(1)
        network.get_submodule("centerconvr1.norm").running_mean.fill_(3)  # type: ignore[union-attr, operator]
    average.update(network, 0)
    torch.testing.assert_close(average.state["head.weight"], first + 0.9)  # its first step keeps a tenth
    average.update(network, 10_000)
    torch.testing.assert_close(average.state["head.weight"], first + 0.9 + 0.001)
    assert float(average.state["centerconvr1.norm.running_mean"][0]) == 3


def test_precision_is_chosen_by_measurement_and_floats_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    seconds = {"float32": 1.0, "bfloat16": 0.5}
    from bainite_fast.training import hardware

    def measured(work: Any) -> float:
        work()
        return seconds[ran[-1]]

    monkeypatch.setattr(hardware, "seconds_of", measured)
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: True)
    device = torch.device("cpu")
    assert choose_hardware(device, "auto", lambda h: ran.append(h.precision)).precision == "bfloat16"
    seconds["bfloat16"] = 0.99
    assert choose_hardware(device, "auto", lambda h: ran.append(h.precision)).precision == "float32"
    ran.clear()
    assert choose_hardware(device, "bfloat16", lambda h: ran.append(h.precision)).precision == "bfloat16"
    assert ran == []
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: False)
    assert choose_hardware(device, "auto", lambda h: ran.append(h.precision)).precision == "float32"
    assert ran == []
    with pytest.raises(DeviceError):
        hardware.choose_device("xpu:0")


def test_determinism_is_switched_back() -> None:
    with determinism(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("shape", [(37, 61), (16, 16), (90, 41)])
def test_cut_labels_are_those_of_one_pass(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from bainite_fast.training import predict as module

    torch.manual_seed(0)
    network = UNet(1, 3, base=4, depth=2).eval()
    reach: Reach = probe(network, 1)
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    whole = predict(network, image, mean=[0.4], std=[0.2], reach=reach, hardware=CPU)
    halo = reach.halo
    padded = np.pad(image, [(halo, halo + -n % reach.stride) for n in shape], mode="reflect").astype(np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy((padded / 255 - 0.4) / 0.2).float()[None, None])[0]
    expected = logits.argmax(0).numpy()[halo : halo + shape[0], halo : halo + shape[1]]
    np.testing.assert_array_equal(whole, expected)
    monkeypatch.setattr(module, "_LARGEST", 16)
    np.testing.assert_array_equal(predict(network, image, mean=[0.4], std=[0.2], reach=reach, hardware=CPU), expected)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    network, other = UNet(1, 2, base=2, depth=1), UNet(1, 2, base=4, depth=1)
    optimiser = make_optimiser(OptimiserRecipe(), network.parameters())
    network(torch.zeros(1, 1, 4, 4)).sum().backward()
    optimiser.step()
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, checkpoint.pack(network, optimiser, None), {"step": 1})
    tensors, place = checkpoint.read(path)
    assert place == {"step": 1}
    with pytest.raises(JournalError, match="another network"):
        checkpoint.unpack(tensors, other, make_optimiser(OptimiserRecipe(), other.parameters()), None)
    fresh = UNet(1, 2, base=2, depth=1)
    restored = make_optimiser(OptimiserRecipe(), fresh.parameters())
    checkpoint.unpack(tensors, fresh, restored, None)
    mine, theirs = restored.state_dict()["state"], optimiser.state_dict()["state"]
    assert all(torch.equal(mine[i][key], theirs[i][key]) for i in theirs for key in theirs[i])
    before = path.read_bytes()
    with pytest.raises(OutputError, match="cannot write"):
        checkpoint.save(path / "below a file", {}, {})
    with pytest.raises(OutputError, match="cannot write"):
        checkpoint.save(tmp_path, {}, {})
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("names", "um", "scale", "words"),
    [
        (("bainite", "ferrite"), 0.1, 1.0, "in another order: ferrite, bainite"),
        (("ferrite", "bainite"), 0.05, 1.0, r"0.05 µm/px .* was trained at 0.1; data.scale: 0.5"),
        (("ferrite", "bainite"), 0.05, 0.5, None),
        (("ferrite", "pearlite"), None, 1.0, None),
    ],
)
def test_data_that_mean_something_else_than_the_package_are_told_of(tmp_path, names, um, scale, words) -> None:
    package = save_small_package(small_unet(), tmp_path / "package", um_per_px=0.1)
    image = np.eye(8, dtype=np.uint8)
    data = array_dataset([image], [image], classes=names, um_per_px=um)
    recipe = small(data__scale=scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if words is None:
            assert named_after(data, recipe, package).class_names == names
            return
    with pytest.warns(BainiteWarning, match=words):
        named_after(data, recipe, package)


@pytest.mark.parametrize(
    ("scores", "gain", "expected"),
    [
        ([0.5], 0.1, 0),
        ([0.5, 0.54, 0.58, 0.62], 0.1, 0),  # slow, and a rise by more than 0.1 in three steps
        ([0.5, 0.54, 0.58], 0.1, 2),
        ([0.5, 0.5, 0.49], 0.0, 2),
        ([0.5, 0.51, 0.505], 0.0, 1),
        ([0.5, math.nan, math.nan], 0.0, 2),
    ],
)
def test_slow_rises_add_up(scores: list[float], gain: float, expected: int) -> None:
    assert validations_without_rise(scores, gain) == expected
