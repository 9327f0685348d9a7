"""The compiled network gives the logits of the plain one, in any size, from any thread."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional, utils
from torch.nn.utils import parametrizations

from bainite_fast import kernels
from bainite_fast.errors import BainiteWarning, DeviceError, ModelError
from bainite_fast.models import (
    LoadedModel,
    UNet,
    compile,
    load,
    measure_layout,
    precision,
    save_package,
    serial_threads,
)
from bainite_fast.models.compiled import LAYOUTS, Runtime
from bainite_fast.models.fold import fold_batch_norm
from bainite_fast.models.peak import allocator_keeps_pages
from bainite_fast.training.hardware import choose_hardware
from processor_helpers import onednn_convolves
from property_helpers import examples


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give the batch norms statistics, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.5, generator=generator)
            norm.running_var.uniform_(0.3, 3, generator=generator)
            if norm.weight is not None:
                norm.weight.data.uniform_(0.5, 1.5, generator=generator)
                norm.bias.data.normal_(0, 0.3, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.manual_seed(1)
    return load(trained(UNet(base=4, depth=3)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with serial_threads():
        yield


class Odd(nn.Module):
    """Batch norms of every kind: after a convolution, a shared one, a pooled one, a transposed one, two in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(1, 4, 3, padding=1, groups=1), nn.BatchNorm2d(4)
        self.b, self.b_norm = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4, affine=False)
        self.shared, self.shared_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.pool_norm = nn.BatchNorm2d(4)
        self.up, self.up_norm = nn.ConvTranspose2d(4, 6, 2, stride=2), nn.BatchNorm2d(6)
        self.split_up, self.split_norm = nn.ConvTranspose2d(6, 6, 1, groups=2), nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b_norm(self.b(functional.relu(self.a_norm(self.a(x)))))
        x = self.shared_norm(self.shared(x)) + self.shared(x)
        x = self.pool_norm(functional.max_pool2d(x, 2))
        return self.head(self.split_norm(self.split_up(self.up_norm(self.up(x)))))


class Branch(nn.Module):
    """Control flow on the size, as in many U-Nets: not to be traced symbolically."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.interpolate(functional.max_pool2d(self.norm(self.conv(x)), 2), scale_factor=2)
        if y.shape != x.shape and y.shape[2] != x.shape[2]:
            y = functional.pad(y, (0, 0, 0, x.shape[2] - y.shape[2]))
        return self.head(y)


class Loops(nn.Module):
    """Repeats by a value: a trace of it is wrong at other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) * float(x.shape[2] > 0) + (1.0 if x.shape[2] > 10**6 else 0.0)


def test_folding_is_exact_and_leaves_the_rest_alone() -> None:
    torch.manual_seed(0)
    module = trained(Odd())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    folded, count = fold_batch_norm(module)
    assert count == 3  # a, b and up
    x = torch.randn(2, 1, 12, 20)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), module(x), atol=1e-6, rtol=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert fold_batch_norm(trained(UNet(base=2)))[1] == 18
    assert fold_batch_norm(trained(Branch()))[1] == 0


@examples(15)
@given(n=st.integers(1, 3), rows=st.integers(1, 9), columns=st.integers(1, 9), layout=st.sampled_from(LAYOUTS))
def test_compiled_equals_plain_at_any_size(loaded: LoadedModel, n: int, rows: int, columns: int, layout: str) -> None:
    compiled = compile(loaded, layout=layout)
    batch = compiled.new_batch(n, 8 * rows, 8 * columns).normal_()
    assert batch.is_contiguous(memory_format=compiled.memory_format)
    with torch.inference_mode():
        expected = loaded.module(batch)
    assert (compiled.run(batch) - expected).abs().max() <= 1e-4
    assert (compiled.mode, compiled.folded, compiled.dtype) == ("traced", 14, "float32")


@pytest.mark.parametrize("module", [Odd(), Branch(), Loops(), nn.Conv2d(3, 1, 1)], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("script", [False, True])
def test_foreign_modules(module: nn.Module, script: bool, tmp_path: Path) -> None:
    module = trained(module)
    model: nn.Module | Path = module
    channels = 3 if isinstance(module, nn.Conv2d) else 1
    if script:
        model = tmp_path / "m.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(module, torch.zeros(1, channels, 16, 16)).save(str(model))
    compiled = compile(load(model))
    batch = compiled.new_batch(2, 36, 52).normal_()
    with torch.inference_mode():
        assert (compiled.run(batch) - module(batch)).abs().max() <= 1e-4
    assert compiled.mode == ("frozen" if script else "traced")


class Asserts(nn.Module):
    """Asks of its input what fx's stand-ins for tensors have no answer to."""

    def __init__(self, ask: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.ask, self.head = ask, nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.ask(x)
        return self.head(x)


@pytest.mark.parametrize("ask", [lambda x: isinstance(x, torch.Tensor), lambda x: {4: "image"}[x.dim()]])
def test_networks_that_cannot_be_traced_symbolically(ask: Callable[[torch.Tensor], object]) -> None:
    compiled = compile(load(Asserts(ask)))
    assert compiled.run(compiled.new_batch(1, 16, 20).zero_()).shape == (1, 2, 16, 20)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [utils.weight_norm, utils.spectral_norm, parametrizations.weight_norm])
def test_weights_that_hooks_compute(norm: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    conv = norm(nn.Conv2d(16, 16, 3, padding=1))
    first = nn.Conv2d(1, 16, 3, padding=1)
    module = trained(nn.Sequential(first, nn.ReLU(), conv, nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 2, 1)))
    batch = torch.randn(1, 1, 24, 32)
    with torch.no_grad():
        expected = module(batch)  # without gradient the hooks leave weights that can be copied
    compiled = compile(load(module))
    assert (compiled.run(batch) - expected).abs().max() <= 1e-4


def test_an_input_that_the_network_does_not_take() -> None:
    compiled = compile(load(nn.Conv2d(1, 2, 9, padding=4, padding_mode="reflect")))
    with pytest.raises(ModelError, match=r"fails on a batch \[1, 1, 3, 40\].*[Pp]adding size.*use edge='mirror'"):
        compiled.run(compiled.new_batch(1, 3, 40).zero_())


def test_bfloat16(loaded: LoadedModel) -> None:
    plain, low = compile(loaded), compile(loaded, precision="bfloat16")
    batch = plain.new_batch(1, 64, 48).normal_()
    logits = low.run(batch.to(low.torch_dtype))
    assert (low.torch_dtype, low.dtype, logits.dtype) == (torch.bfloat16, "bfloat16", torch.bfloat16)
    assert (logits.float() - plain.run(batch)).abs().max() <= 0.05 * plain.run(batch).abs().max()
    assert low.weight_bytes * 2 == plain.weight_bytes


def test_frozen_float32_file_refuses_bfloat16(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.trace(nn.Conv2d(1, 2, 3, padding=1).eval(), torch.zeros(1, 1, 8, 8)))
        frozen.save(str(tmp_path / "f.pt"))
    model = load(tmp_path / "f.pt")
    assert compile(model).mode == "frozen"
    with pytest.raises(DeviceError, match="does not run in bfloat16"):
        compile(model, precision="bfloat16")


def packed(folder: Path, bias: float) -> LoadedModel:
    torch.manual_seed(4)
    net = UNet(base=2, depth=1)
    with torch.no_grad():
        net.head.weight *= 0 if bias else 1
        net.head.bias.copy_(torch.tensor([0.0, bias]))
    image = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    return load(save_package(net, folder, classes=["a", "b"], test_input=image))


def test_precision_follows_the_labels(tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sure, unsure = packed(tmp_path / "sure", 1.0), packed(tmp_path / "unsure", 0.0)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    assert precision.choose_precision(sure) == "bfloat16"
    monkeypatch.setattr(precision, "FLIP_LIMIT", -1.0)
    assert precision.choose_precision(unsure) == "float32"
    assert precision.choose_precision(loaded) == "float32"  # no test input
    assert precision.choose_precision(unsure, "bfloat16") == "bfloat16"
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    with pytest.warns(BainiteWarning, match="no bfloat16 instructions.*precision='auto'"):
        assert precision.choose_precision(unsure, "bfloat16") == "bfloat16"
    assert precision.choose_precision(sure) == "float32"
    with pytest.raises(ModelError, match="use 'auto', 'float32', 'bfloat16', 'float16'"):
        precision.choose_precision(sure, "float8")


def test_a_gpu_that_emulates_bfloat16_takes_float16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = packed(tmp_path / "sure", 1.0)
    monkeypatch.setattr(precision, "compile", lambda loaded, **_: compile(loaded))
    for major, expected in ((7, "float16"), (8, "bfloat16")):
        facts = SimpleNamespace(major=major)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, facts=facts: facts)
        assert precision.choose_precision(sure, "auto", "cuda:0") == expected
        assert choose_hardware(torch.device("cuda:0"), "auto", lambda _: None).precision == expected


def test_labels() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 2.0, 1.0]])[None, :, None]
    assert precision.labels(logits).tolist() == [[[0, 1, 2]]]
    assert precision.labels(torch.tensor([[[[-1.0, 0.0, 0.1]]]])).tolist() == [[[0, 0, 1]]]


def test_many_threads_give_the_same_bits(loaded: LoadedModel) -> None:
    compiled = compile(loaded)
    batches = [compiled.new_batch(1, 32, 8 * (3 + i % 4)).normal_() for i in range(12)]
    with serial_threads(), ThreadPoolExecutor(4) as pool:
        alone = [compiled.run(x).clone() for x in batches]
        together = list(pool.map(compiled.run, batches))
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_serial_threads_are_restored() -> None:
    code = (
        "import torch; from bainite_fast.models import serial_threads; torch.set_num_threads(2)\n"
        "with serial_threads(), serial_threads(): assert torch.get_num_threads() == 1\n"
        "assert torch.get_num_threads() == 2"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_runtime_for_one_model(loaded: LoadedModel) -> None:
    assert compile(loaded) is compile(loaded, layout="channels_last")
    assert compile(loaded) is not compile(loaded, layout="contiguous")


def test_wrong_batches(loaded: LoadedModel) -> None:
    compiled = compile(loaded)
    with pytest.raises(ModelError, match="make them with new_batch"):
        compiled.run(torch.zeros(1, 2, 16, 16))
    with pytest.raises(ModelError, match="make them with new_batch"):
        compiled.run(torch.zeros(1, 1, 16, 16, dtype=torch.float64))
    with pytest.raises(ModelError, match="stride of 8 px"):
        compiled.run(torch.zeros(1, 1, 16, 12))
    with pytest.raises(ModelError, match="use one of"):
        compile(loaded, precision="float8")  # type: ignore[arg-type]


def test_fingerprint_and_layouts(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = compile(loaded).fingerprint()
    assert mark["layout"] == "channels_last" and mark["torch"] == torch.__version__ and mark["intra_op_threads"] == 1
    low = compile(loaded, precision="bfloat16").fingerprint()
    assert mark != low
    assert "bfloat16_instructions" not in mark
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True})
    assert compile(loaded, precision="bfloat16").fingerprint()["bfloat16_instructions"] == ["avx512_bf16", "amx_bf16"]
    speeds = measure_layout(loaded, shape=(32, 32), rounds=1)
    assert set(speeds) == set(LAYOUTS) and list(speeds.values()) == sorted(speeds.values(), reverse=True)


def alive(runtime: Runtime, side: int) -> float:
    """Return the predicted bytes alive, without what the allocator and oneDNN add."""
    return (runtime.activation_bytes(1, side, side) - runtime.activation_bytes(1, 8, 8)) / (
        1.9 if allocator_keeps_pages() else 1.1
    )


def test_predicted_memory_is_what_the_layers_hold(loaded: LoadedModel) -> None:
    compiled = compile(loaded)
    # Where the last skip (4 channels) and the upsampled (4) are joined (8), 16 float32 values a pixel are alive.
    assert alive(compiled, 512) == pytest.approx((16 + 1) * 4 * 512**2, rel=0.25)
    assert alive(compiled, 1024) == pytest.approx(4 * alive(compiled, 512), rel=0.01)
    half = alive(compile(loaded, precision="bfloat16"), 512)
    if {"avx512bf16", "amx-bf16"} & set(kernels.cpu_features()):
        assert half == pytest.approx(alive(compiled, 512) / 2, rel=0.3)
    elif onednn_convolves(torch.bfloat16):  # it then works on float32 copies, beside the bfloat16 ones
        assert alive(compiled, 512) / 2 < half < 1.5 * alive(compiled, 512)
    else:  # PyTorch then writes out the 3×3 surroundings of every pixel of what was joined, for a matrix product
        assert half == pytest.approx((9 * 8 + 8 + 4 + 1) * 2 * 512**2, rel=0.25)
    assert compiled.activation_bytes(2, 512, 512) == compiled.activation_bytes(1, 512, 1024)
    assert compiled.largest_tensor(2, 512, 512) == compiled.largest_tensor(1, 512, 1024)


def test_predicted_memory_is_what_the_process_grows_by() -> None:
    code = """
import sys, torch
from pathlib import Path
from bainite_fast.models import UNet, compile, load, serial_threads
def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) << 10 for x in lines if x.startswith(key))
runtime = compile(load(UNet(base=16, depth=2)), precision=sys.argv[1])
predicted = runtime.activation_bytes(1, 640, 640)
before = status("VmRSS")
with serial_threads():
    batch = runtime.new_batch(1, 640, 640).zero_()
    for _ in range(2):
        runtime.run(batch)
print((status("VmHWM") - before) / predicted)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the high-water mark of memory is read from /proc, which this system lacks")
    for name in ("float32", "bfloat16"):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        assert 0.5 < float(done.stdout) < 1.25  # too little would break a budget; what smaller runs left free lowers it


def test_the_largest_tensor_is_known() -> None:
    """Of a U-Net of base 4, the first level's concatenation; of a network that widens, where it is widest."""
    assert compile(load(UNet(base=4, depth=2))).largest_tensor(1, 1024, 512) == 8 * 1024 * 512
    wide = torch.nn.Sequential(torch.nn.Conv2d(1, 48, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(48, 2, 1))
    assert compile(load(wide)).largest_tensor(2, 64, 64) == 48 * 2 * 64 * 64


def test_a_network_that_cannot_be_saved_is_traced_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("Could not export Python function call")

    monkeypatch.setattr("bainite_fast.models.runtime._jit.save", refuse)
    network = nn.Conv2d(1, 2, 3, padding=1).eval()
    made = compile(load(network), precision="float32")
    x = made.new_batch(1, 32, 32).normal_()
    assert made.mode == "traced"
    torch.testing.assert_close(made.run(x), network(x).detach(), rtol=1e-4, atol=1e-5)
