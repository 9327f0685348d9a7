"""Real micrographs, whole, through every route: the labels must not depend on the file format."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

import bainite_fast
from bainite_fast import io
from segment_helpers import save_small_package, small_unet


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A package, for a module would be compiled anew for every picture."""
    return save_small_package(small_unet(depth=2, base=4, seed=7), tmp_path_factory.mktemp("net") / "package")


def _labels(source, net, out):
    options = {"precision": "float32", "memory": "4GiB", "tile": 512, "scale": "as-is"}
    seg = bainite_fast.segment(source, net, out=out, progress=False, **options)
    return np.asarray(seg.labels), seg


def _pixels(path):
    with io.open_mosaic(path) as mosaic:
        return mosaic.read(0, mosaic.shape[0], 0, mosaic.shape[1])


def _valid(folder):
    """Check an output with the validator and with the reader that napari uses."""
    import ome_zarr.io
    import ome_zarr.reader
    import zarr
    from ome_zarr_models import open_ome_zarr

    assert "Image" in type(open_ome_zarr(zarr.open_group(folder, mode="r"))).__name__
    label = open_ome_zarr(zarr.open_group(folder / "labels" / "phases", mode="r"))
    assert "ImageLabel" in type(label).__name__
    location = ome_zarr.io.parse_url(str(folder))
    nodes = list(ome_zarr.reader.Reader(location)())
    assert any("labels/phases" in str(node.zarr) for node in nodes)
    return nodes


def test_whole_mosaic_by_three_routes(data_dir, net, tmp_path):
    tiff = data_dir / "mosaic_dendritic.tif"
    from_tiff, seg = _labels(tiff, net, tmp_path / "tiff.ome.zarr")
    assert from_tiff.shape == _pixels(tiff).shape == (6000, 9900)
    io.convert(tiff, tmp_path / "image.ome.zarr")
    from_zarr, inside = _labels(tmp_path / "image.ome.zarr", net, None)
    png = tmp_path / "image.png"
    png.write_bytes(imagecodecs.png_encode(_pixels(tiff), level=1))
    from_png, _ = _labels(png, net, tmp_path / "png.ome.zarr")
    assert np.array_equal(from_tiff, from_zarr)
    assert np.array_equal(from_tiff, from_png)
    assert min(seg.fractions.values()) > 0.05
    assert inside.path == tmp_path / "image.ome.zarr" / "labels" / "phases"
    _valid(tmp_path / "tiff.ome.zarr")
    assert len(_valid(tmp_path / "image.ome.zarr")) >= 2


def test_every_uhcs_micrograph_by_three_routes(data_dir, net, tmp_path):
    paths = sorted(p for p in (data_dir / "uhcs" / "images").iterdir() if p.suffix in (".png", ".tif", ".jpg"))
    assert len(paths) == 24
    for path in paths:
        image = _pixels(path)
        own, _ = _labels(path, net, tmp_path / f"{path.stem}.own.ome.zarr")
        io.convert(image, tmp_path / f"{path.stem}.image.ome.zarr")
        by_zarr, _ = _labels(tmp_path / f"{path.stem}.image.ome.zarr", net, None)
        import tifffile

        tifffile.imwrite(tmp_path / f"{path.stem}.tif", image, tile=(128, 128))
        by_tiff, _ = _labels(tmp_path / f"{path.stem}.tif", net, None)
        (tmp_path / f"{path.stem}.png").write_bytes(imagecodecs.png_encode(image))
        by_png, _ = _labels(tmp_path / f"{path.stem}.png", net, tmp_path / f"{path.stem}.png.ome.zarr")
        assert np.array_equal(own, by_zarr), path
        assert np.array_equal(own, by_tiff), path
        assert np.array_equal(own, by_png), path
    _valid(tmp_path / f"{paths[0].stem}.own.ome.zarr")
