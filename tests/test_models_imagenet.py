"""ImageNet weights: from files of both kinds, downloaded once and checked, and refused where anything is wrong."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bainite_fast.errors import ModelError
from bainite_fast.models import UNet, VGG16UNet, load_imagenet
from test_models_vgg16 import TORCHVISION

State = dict[str, torch.Tensor]


def weights(base: int = 4) -> State:
    """Return weights by torchvision's names and, at base 64, shapes; the classifier is there, and small."""
    generator = torch.Generator().manual_seed(7)
    state: State = {}
    for index, (into, out) in TORCHVISION.items():
        into, out = (3 if into == 3 else into * base // 64), out * base // 64
        state[f"features.{index}.weight"] = torch.randn(out, into, 3, 3, generator=generator)
        state[f"features.{index}.bias"] = torch.randn(out, generator=generator)
    return state | {"classifier.0.weight": torch.ones(2, 2), "classifier.0.bias": torch.ones(2)}


def write(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.suffix == ".pt")
    return path


def same_encoder(network: VGG16UNet, state: State) -> bool:
    return all(torch.equal(x, state[f"features.{k}"]) for k, x in network.features.state_dict().items())


@pytest.mark.parametrize("name", ["vgg16.safetensors", "vgg16.pth", "vgg16.pt"])
def test_weights_from_a_file(name: str, tmp_path: Path) -> None:
    network = VGG16UNet(base=4)
    decoder = {k: v.clone() for k, v in network.state_dict().items() if not k.startswith("features.")}
    path = write(weights(), tmp_path / name)
    assert load_imagenet(network, path) == path
    assert same_encoder(network, weights())
    assert all(torch.equal(network.state_dict()[k], v) for k, v in decoder.items())
    assert all(x.requires_grad for x in network.parameters())


def test_the_real_size_and_half_precision(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in weights(64).items()}
    network = VGG16UNet(in_channels=3)
    load_imagenet(network, write(state, tmp_path / "vgg16.safetensors"))
    assert same_encoder(network, {k: v.float() for k, v in state.items()})


def drop(state: State) -> Any:
    del state["features.28.bias"]
    return state


def batch_norm(state: State) -> Any:
    return {**state, "features.1.running_mean": torch.zeros(4)}


def prefix(state: State) -> Any:
    return {f"model.{k}": v for k, v in state.items()}


def reshape(state: State) -> Any:
    return {**state, "features.5.weight": torch.zeros(8, 5, 3, 3)}


def poison(state: State) -> Any:
    return {**state, "features.0.bias": torch.full((4,), torch.nan)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop, r"lacks features\.28\.bias; the file holds weights by torchvision's names"),
        (batch_norm, r"without batch norm.*holds features\.1\.running_mean"),
        (prefix, r"lacks features\.0\.weight, features\.0\.bias, features\.2\.weight …"),
        (reshape, r"features\.5\.weight is \[8, 5, 3, 3\], and the network's is \[8, 4, 3, 3\].*base=64"),
        (poison, r"features\.0\.bias .*no finite floats"),
        (lambda state: {"state_dict": state}, "not a dictionary of weights alone .it holds state_dict"),
        (lambda state: [1, 2], "not a dictionary of weights alone .it holds list"),
        (lambda state: {"a": Path("x")}, "neither safetensors nor plain weights"),
    ],
)
def test_wrong_weights_change_nothing(spoil: Callable[[State], Any], message: str, tmp_path: Path) -> None:
    network = VGG16UNet(base=4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ModelError, match=message):
        load_imagenet(network, write(spoil(weights()), tmp_path / "vgg16.pth"))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*nowhere.pth; fetch https://download.pytorch.org/models/vgg16-"):
        load_imagenet(VGG16UNet(base=4), tmp_path / "nowhere.pth")
    (tmp_path / "page.pth").write_bytes(b"<html>404</html>")
    with pytest.raises(ModelError, match="neither safetensors nor plain weights"):
        load_imagenet(VGG16UNet(base=4), tmp_path / "page.pth")
    with pytest.raises(ModelError, match="into a VGG16UNet, and got a UNet"):
        load_imagenet(UNet(base=2), tmp_path / "page.pth")  # type: ignore[arg-type]


class Site:
    """An HTTP server on 127.0.0.1 that knows a few files, and counts how often it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.short_by = 0
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                site.asked.append(self.path)
                content = site.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: len(content or b"") - site.short_by])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def put(self, content: bytes, digest: str | None = None) -> str:
        """Serve a file under a name with its sha256, and return the address."""
        name = f"/models/vgg16-{(digest or hashlib.sha256(content).hexdigest())[:8]}.pth"
        self.files[name] = content
        return f"http://127.0.0.1:{self.server.server_port}{name}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()
    site.thread.join()


def cached(tmp_path: Path) -> list[Path]:
    return sorted(x for x in (tmp_path / "torch").rglob("*") if x.is_file())


def test_a_download_is_checked_and_kept(site: Site, tmp_path: Path) -> None:
    url = site.put(write(weights(), tmp_path / "vgg16.pth").read_bytes())
    network, steps = VGG16UNet(base=4), []
    path = load_imagenet(network, url=url, progress=lambda done, total: steps.append((done, total)))
    assert same_encoder(network, weights())
    assert cached(tmp_path) == [path] == [tmp_path / "torch/hub/checkpoints" / url.rpartition("/")[2]]
    assert steps[-1] == (path.stat().st_size, path.stat().st_size)
    again = VGG16UNet(base=4)
    assert load_imagenet(again, url=url) == path
    assert same_encoder(again, weights())
    assert len(site.asked) == 1


def test_a_changed_or_torn_download_is_refused(site: Site, tmp_path: Path) -> None:
    content = write(weights(), tmp_path / "vgg16.pth").read_bytes()
    with pytest.raises(ModelError, match=r"whose sha256 is [0-9a-f]{16}… and not 01234567…"):
        load_imagenet(VGG16UNet(base=4), url=site.put(content, digest="01234567"))
    assert cached(tmp_path) == []
    site.short_by = 1000
    with pytest.raises(ModelError, match="cut short|IncompleteRead"):
        load_imagenet(VGG16UNet(base=4), url=site.put(content))
    assert cached(tmp_path) == []


def test_a_spoilt_cache_is_named(site: Site, tmp_path: Path) -> None:
    url = site.put(write(weights(), tmp_path / "vgg16.pth").read_bytes())
    path = load_imagenet(VGG16UNet(base=4), url=url)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="its sha256 differs.: delete it"):
        load_imagenet(VGG16UNet(base=4), url=url)


def test_without_a_network_the_file_is_named(site: Site, tmp_path: Path) -> None:
    port = site.server.server_port
    with pytest.raises(ModelError, match=r"cannot be downloaded from .* \(Not Found\)"):
        load_imagenet(VGG16UNet(base=4), url=f"http://127.0.0.1:{port}/vgg16-397923af.pth")
    site.server.shutdown()
    site.server.server_close()
    place = f"{tmp_path}/torch/hub/checkpoints/vgg16-397923af.pth"
    message = rf"fetch that file elsewhere and put it at {place}, or give its path.*network\.weights=FILE"
    with pytest.raises(ModelError, match=message):
        load_imagenet(VGG16UNet(base=4), url=f"http://127.0.0.1:{port}/vgg16-397923af.pth")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///tmp/vgg16-397923af.pth", "https://example.org/vgg16.pth"])
def test_addresses_without_a_hash_are_refused(url: str) -> None:
    with pytest.raises(ModelError, match="not an http or https address that ends in NAME-SHA256.pth"):
        load_imagenet(VGG16UNet(base=4), url=url)
