"""The probe: stride and halo are right, one stride less is not enough, and what cannot be tiled is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bainite_fast.errors import ModelError
from bainite_fast.models import Reach, UNet, VGG16UNet, architecture, probe, serial_threads
from bainite_fast.models.catalog import network_reach
from property_helpers import examples


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with serial_threads():
        yield


class Skip(nn.Module):
    """A U-Net of any pooling factors, with transposed or bilinear upsampling and any normalisation."""

    def __init__(self, factors: tuple[int, ...], *, bilinear: bool = False, convs: int = 2, width: int = 3) -> None:
        super().__init__()
        self.factors = factors
        self.down = nn.ModuleList(self._block(1 if i == 0 else width, width, convs) for i in range(len(factors)))
        self.center = self._block(width, width, convs)
        self.up = nn.ModuleList(self._block(2 * width, width, convs) for _ in factors)
        self.grow = nn.ModuleList(
            nn.Upsample(scale_factor=f, mode="bilinear") if bilinear else nn.ConvTranspose2d(width, width, f, stride=f)
            for f in factors
        )
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _block(before: int, after: int, convs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i in range(convs):
            layers += [nn.Conv2d(before if i == 0 else after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for factor, block in zip(self.factors, self.down, strict=True):
            skips.append(block(x))
            x = functional.max_pool2d(skips[-1], factor)
        x = self.center(x)
        for i in reversed(range(len(self.factors))):
            x = self.up[i](torch.cat((skips[i], self.grow[i](x)), 1))
        return self.head(x)


class Vgg(nn.Module):
    """VGG16's convolutions as an encoder down to 1/32, and a convolution pair a level back up."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        before = 1
        for convs in (2, 2, 3, 3, 3):
            self.stages.append(Skip._block(before, width, convs))
            before = width
        self.center = Skip._block(width, width, 2)
        self.up = nn.ModuleList(Skip._block(2 * width, width, 2) for _ in range(5))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, stride=2) for _ in range(5))
        self.head = nn.Conv2d(width, 2, 1)
        for value in self.parameters():  # positive weights: no deep path dies in so narrow a network
            value.data.abs_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for stage in self.stages:
            skips.append(stage(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = self.center(x)
        for i in reversed(range(5)):
            x = self.up[i](torch.cat((skips[i], self.grow[i](x)), 1))
        return self.head(x)


class Apply(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], object], conv: nn.Module | None = None) -> None:
        super().__init__()
        self.function = function
        self.conv = conv or nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> object:
        return self.function(self.conv(x))


def resized(x: torch.Tensor) -> torch.Tensor:
    """Accept any size, on a grid of 5 px."""
    return functional.interpolate(functional.avg_pool2d(x, 5, ceil_mode=True), scale_factor=5)[
        ..., : x.shape[2], : x.shape[3]
    ]


def shifted(x: torch.Tensor) -> torch.Tensor:
    return functional.pad(x, (0, 7, 0, 0))[..., 7:]


def round_the_strip() -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a path to the near and one to (±8, ±8), (±8, ±24) … px: none of the second stays in a column."""
    near, far = nn.Conv2d(1, 2, 1).double(), nn.Conv2d(1, 2, 4, dilation=16).double()

    def sum_of_both(x: torch.Tensor) -> torch.Tensor:
        wide = functional.pad(x, (24, 24, 24, 24)).double()
        return (near(x.double()) + far(wide)).to(x.dtype)

    return sum_of_both


KNOWN: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "u-net": (lambda: UNet(base=2), (16, 96, 94)),
    "5 levels": (lambda: UNet(base=2, depth=5), (32, 192, 190)),
    "1 level": (lambda: UNet(base=2, depth=1), (2, 8, 8)),
    "kernel 5": (lambda: UNet(base=2, depth=2, kernel=5), (4, 40, 40)),
    "bilinear": (lambda: Skip((2, 2, 2, 2), bilinear=True), (16, 112, 109)),
    "vgg16": (Vgg, (32, 224, 222)),
    "stride 3": (lambda: Skip((3,), convs=1), (3, 9, 7)),
    "stride 5": (lambda: Apply(resized), (5, 5, 5)),
    "stride 6": (lambda: Skip((3, 2), convs=1), (6, 18, 16)),
    "1x1": (lambda: nn.Conv2d(1, 2, 1), (1, 0, 0)),
    "dilated": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=15, dilation=15), nn.Conv2d(2, 2, 3, padding=16, dilation=16)),
        (1, 31, 31),
    ),
    "even kernel": (lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(1, 2, 4)), (1, 2, 2)),
    "even kernel, dilated, on one path": (lambda: Apply(round_the_strip(), nn.Identity()), (1, 24, 24)),
    "one-sided": (lambda: Apply(shifted), (1, 8, 8)),
    "anisotropic": (lambda: nn.Conv2d(1, 2, (3, 9), padding=(1, 4)), (1, 4, 4)),
    "anisotropic stride": (
        lambda: nn.Sequential(nn.MaxPool2d((1, 4)), nn.Conv2d(1, 2, 3, padding=1), nn.Upsample(scale_factor=(1, 4))),
        (4, 4, 4),
    ),
    "reflect padding": (lambda: nn.Conv2d(1, 2, 7, padding=3, padding_mode="reflect"), (1, 3, 3)),
}  # fmt: skip


def tiled(module: nn.Module, x: torch.Tensor, halo: int, core: int) -> torch.Tensor:
    """Return the logits of `x` without its outermost margin of 256 px or so, put together from cores of `core` px."""
    margin = (x.shape[2] - 2 * core) // 2
    rows = []
    for top in (margin, margin + core):
        cells = []
        for left in (margin, margin + core):
            part = x[..., top - halo : top + core + halo, left - halo : left + core + halo]
            cells.append(module(part)[..., halo : halo + core, halo : halo + core])
        rows.append(torch.cat(cells, 3))
    return torch.cat(rows, 2)


def worst(module: nn.Module, reach: Reach, halo: int) -> float:
    """Return the largest difference, relative, of the inner 2 × 2 cores from one pass over all, in float64."""
    module = module.double().eval()
    core, margin = 2 * reach.stride, reach.halo + 2 * reach.stride
    generator = torch.Generator().manual_seed(3)
    side = 2 * (core + margin)
    x = torch.randn(1, 1, side, side, dtype=torch.float64, generator=generator)
    with torch.inference_mode():
        whole = module(x)[..., margin:-margin, margin:-margin]
        return float((tiled(module, x, halo, core) - whole).abs().max() / whole.abs().max())


@pytest.mark.parametrize("name", KNOWN)
def test_known_networks(name: str) -> None:
    make, (stride, halo, radius) = KNOWN[name]
    torch.manual_seed(1)
    module = make().eval()
    reach = probe(module, 1)
    assert (reach.stride, reach.halo, reach.radius, reach.out_channels) == (stride, halo, radius, 2)
    assert worst(module, reach, halo) <= 1e-12
    if halo:
        assert worst(module, reach, halo - stride) > 1e-12  # one stride less is not enough


@examples(12)
@given(
    factors=st.lists(st.sampled_from([2, 2, 3, 4, 5, 7]), min_size=1, max_size=3).map(tuple),
    bilinear=st.booleans(),
    convs=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_tiles_equal_the_whole_for_any_network(factors: tuple[int, ...], bilinear: bool, convs: int, seed: int) -> None:
    total = torch.tensor(factors).prod().item()
    if total > 20:
        factors = factors[:1]
    torch.manual_seed(seed)
    module = Skip(factors, bilinear=bilinear, convs=convs, width=2).eval()
    reach = probe(module, 1)
    assert reach.stride == torch.tensor(factors).prod().item()
    assert reach.halo - reach.stride < reach.radius <= reach.halo
    assert worst(module, reach, reach.halo) <= 1e-12


@pytest.mark.parametrize(
    "module",
    [
        UNet(base=1, depth=d, kernel=k)
        for d, k in ((1, 1), (1, 3), (2, 3), (3, 3), (4, 3), (1, 5), (2, 5), (3, 5), (2, 7))
    ]
    + [VGG16UNet(base=1), VGG16UNet(3, base=2)],
    ids=lambda m: f"{type(m).__name__}-{m.depth}-{getattr(m, 'kernel', 3)}",
)
def test_packages_know_the_reach_of_their_networks(module: UNet | VGG16UNet) -> None:
    reach = probe(module.eval(), module.in_channels)
    assert network_reach(architecture(module)) == (reach.stride, reach.radius)


def test_a_core_off_the_grid_is_not_exact() -> None:
    torch.manual_seed(0)
    module = UNet(base=2, depth=2).double().eval()
    reach = probe(UNet(base=2, depth=2), 1)
    x = torch.randn(1, 1, 96, 16, dtype=torch.float64)
    halo = reach.halo
    with torch.inference_mode():
        whole, off = module(x), module(x[:, :, 1 : 1 + 2 * halo + 8])
    assert (off[:, :, halo : halo + 8] - whole[:, :, 1 + halo : 9 + halo]).abs().max() > 1e-6


def test_zero_weights_do_not_hide_the_structure() -> None:
    module = UNet(base=2, depth=3).eval()
    nn.init.zeros_(module.head.weight)
    assert probe(module, 1) == probe(UNet(base=2, depth=3), 1)


def test_the_module_is_left_as_it_was() -> None:
    module = UNet(base=2, depth=2).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    probe(module, 1)
    assert module.training and module.head.weight.dtype == torch.float32
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("kind", ["script", "trace", "frozen"])
def test_torchscript(kind: str) -> None:
    module = Skip((2, 2), convs=1).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 2, 3, padding=1), nn.Upsample(scale_factor=2)).eval()
        )
        if kind != "script":
            made = torch.jit.trace(module, torch.zeros(1, 1, 16, 16))
        if kind == "frozen":
            made = torch.jit.freeze(made)
    assert probe(made, 1) == (Reach(2, 2, 2, 2) if kind == "script" else probe(module, 1))


def hidden(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, torch.zeros(()))


class Partly(nn.Module):
    """Hides NaN on the deep path only."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 3, padding=20, dilation=20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.near(x) + hidden(self.far(x))


def attention(x: torch.Tensor) -> torch.Tensor:
    flat = x.flatten(2)
    return (flat @ torch.softmax(flat.transpose(1, 2) @ flat, 2)).reshape(x.shape)


class ByValue(nn.Module):
    """Scales an image by what it finds in it."""

    def __init__(self, decide: Callable[[torch.Tensor], torch.Tensor], *, branch: bool) -> None:
        super().__init__()
        self.decide, self.branch, self.conv = decide, branch, nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.branch:
            return self.conv(x / 255 if self.decide(x) else x)
        return self.conv(torch.where(self.decide(x), x / 255, x))


def conv(before: int = 1, after: int = 2) -> nn.Module:
    return nn.Conv2d(before, after, 3, padding=1)


def corners() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


def ramp(x: torch.Tensor) -> torch.Tensor:
    return x + torch.arange(x.shape[2], dtype=x.dtype)[:, None]


class Deformable(nn.Module):
    """Reads from places that are off by what a convolution says, or by nothing."""

    def __init__(self, *, moved: bool) -> None:
        super().__init__()
        self.offsets, self.moved = conv(), moved

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = torch.eye(2, 3, dtype=x.dtype).expand(x.shape[0], 2, 3)
        grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
        if self.moved:
            grid = grid + self.offsets(x).permute(0, 2, 3, 1)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "instance norm": (lambda: nn.Sequential(conv(), nn.InstanceNorm2d(2)), "gives another answer to every tile"),
    "group norm": (lambda: nn.Sequential(conv(), nn.GroupNorm(1, 2)), "gives another answer to every tile"),
    "global pooling": (lambda: Apply(lambda x: x - x.mean((2, 3), keepdim=True)), "global pooling"),
    "squeeze-excite": (lambda: Apply(lambda x: x * torch.sigmoid(functional.adaptive_avg_pool2d(x, 1))), "squeeze"),
    "attention": (lambda: Apply(attention), "attention|network fails"),
    "rows of attention": (lambda: Apply(lambda x: x + x.mean(3, keepdim=True)), "gives another answer to every tile"),
    "align corners": (
        lambda: nn.Sequential(conv(), nn.MaxPool2d(2), corners()),
        "align_corners=True",
    ),
    "positions": (lambda: Apply(ramp), "commutes with no shift"),
    "where": (lambda: Apply(hidden), "turns NaN into numbers|hides NaN"),
    "where on one path": (Partly, "hides NaN"),
    "valid padding": (lambda: nn.Conv2d(1, 2, 3), r"must return logits \[1, K, 32, 64\]"),
    "half size": (lambda: nn.Conv2d(1, 2, 2, stride=2), "as large as its input"),
    "transposed": (lambda: Apply(lambda x: x.transpose(2, 3)), "as large as its input"),
    "tuple": (lambda: Apply(lambda x: (x, x)), "returns a tuple"),
    "labels": (lambda: Apply(lambda x: x.argmax(1)), "must return logits"),
    "integers": (lambda: Apply(lambda x: x.long()), "logits of its input's type"),
    "nan weights": (lambda: Apply(lambda x: x * torch.nan), "are its weights finite"),
    "random": (lambda: Apply(lambda x: x + torch.randn_like(x)), "two answers"),
    "if max": (lambda: ByValue(lambda x: x.max() > 1, branch=True), "by a value of the whole image"),
    "if min": (lambda: ByValue(lambda x: x.min() < 0, branch=True), "by a value of the whole image"),
    "where max": (lambda: ByValue(lambda x: x.max() > 100, branch=False), "by a value of the whole image"),
    "where mean": (lambda: ByValue(lambda x: x.mean() < 0.2, branch=False), "by a value of the whole image"),
    "changes its input": (lambda: nn.Sequential(nn.ReLU(inplace=True), conv()), "changes its input in place"),
    "mixes the batch": (lambda: Apply(lambda x: x - x.mean(0, keepdim=True) / 2), "in a batch with another one"),
    "one image at a time": (lambda: Apply(lambda x: x.view(1, *x.shape[1:])), r"a float32 batch \[2, 1, 32, 8"),
    "circular padding": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), "circular padding"),
    "deformable": (lambda: Deformable(moved=True), "places that it computes from the image"),
    "deformable, traced": (
        lambda: torch.jit.trace(Deformable(moved=True).eval(), torch.rand(1, 1, 32, 64), check_trace=False),
        "places that it computes from the image",
    ),
    "channels": (lambda: conv(3), r"fails on a float32 batch \[1, 1, 32, 64\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_tiled_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=message):
        probe(make().eval(), 1)


def test_places_that_no_image_decides_are_measured() -> None:
    assert probe(nn.Sequential(Deformable(moved=False), conv()).eval(), 1).halo < 8


def test_modules_optimised_for_inference_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(nn.Sequential(conv(), nn.ReLU(), conv(2)).eval(), torch.zeros(1, 1, 16, 16))
        optimised = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    with pytest.raises(ModelError, match="optimize_for_inference"):
        probe(optimised, 1)
