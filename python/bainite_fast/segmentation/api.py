"""`segment`, `look_ahead` and `plan`: from a mosaic and a model to a label mosaic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..models import serial_threads
from .outlook import Outlook, outlook
from .progress import reporter
from .request import check_request
from .result import ProgressEvent, Segmentation
from .run import Choice, Prepared, execute, prepare, resolve_target
from .run_plan import Plan
from .stream import ClusterExecutor, Executor, ThreadExecutor

if TYPE_CHECKING:
    import os


def segment(
    source: Any,
    model: Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str = "phases",
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torchscript",
    edge: str = "mirror",
    scale: str | float = "auto",
    normalize: tuple[Any, Any] | None = None,
    tile: int | None = None,
    memory: int | float | str | None = None,
    confidence: bool = False,
    plane: Any = None,
    channel: int | str | None = None,
    level: int = 0,
    resume: bool = True,
    overwrite: bool = False,
    progress: bool | Callable[[ProgressEvent], None] = True,
    client: Any = None,
    crop_bar: Any = None,
    with_image: bool = False,
    ome_version: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Segmentation:
    """Segment a mosaic exactly, in bounded memory, and write the labels as OME-Zarr.

    The labels equal those of one pass of the network over the whole mosaic, whatever its size and however it is cut.
    A run that is killed continues when called again, to the same bytes.

    Parameters
    ----------
    source : path, URL, array or Mosaic
        OME-Zarr 0.4 or 0.5, Zarr, zip store, fsspec URL, TIFF, BigTIFF or OME-TIFF, PNG, JPEG, a NumPy or dask array
        of shape (rows, columns) or (rows, columns, 3), or what :func:`bainite_fast.io.open_mosaic` returned.
    model : str, path or torch.nn.Module, optional
        Bundled name, package folder or zip, TorchScript file or module that maps float32 (N, C, H, W) to logits
        (N, K, H, W). Default: the bundled model, which has seen synthetic steel only.
    out : path, optional
        The OME-Zarr to write to. Default: the source itself where it is a local OME-Zarr image, otherwise
        ``<stem>.ome.zarr`` beside it.
    name : str
        Name of the label image: the result is ``labels/<name>`` in the OME-Zarr.
    device : {"auto", "cpu", "cuda"} or "cuda:N"
        Where the network runs; ``"auto"`` takes a GPU where this build and this machine have one. Labels of a GPU and
        of a CPU may differ where two classes are as good as equal, by the rounding of their sums.
    precision : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"`` takes bfloat16, or on a GPU float16, only where the hardware has it and the model's own test input
        shows that at most 0.1 % of the labels change.
    runtime : {"torchscript", "export", "compile", "auto"}
        What compiles the network: TorchScript, or PyTorch's Inductor, which takes a minute or more and whole tiles
        alone, by ``torch.export`` or by ``torch.compile``. ``"auto"`` compares TorchScript with ``"export"`` and takes
        the faster. Decided once: a run goes on with what it began.
    edge : {"mirror", "native"}
        Beyond the border the network sees the mirrored mosaic, or its own padding.
    scale : {"auto", "as-is"} or float
        ``"auto"`` resamples the mosaic when its µm/px differs from the model's by more than 2 %; labels come back on
        the mosaic's grid. A number gives the mosaic's µm/px where the file does not, or not rightly.
    normalize : tuple of (mean, std), optional
        For bare modules: intensities, scaled to 0…1, become (x - mean) / std. Numbers, or one per channel.
    tile : int, optional
        Edge of the core that a tile writes, in pixels; a multiple of the model's stride.
    memory : int or str, optional
        Budget for the resident memory of the process: bytes or ``"4GiB"``. Default: half of the machine's. On a GPU,
        tile and batch are chosen by its free memory, and this is the host's. Of a cluster, that of each worker; by
        default the workers of a machine share its half.
    confidence : bool
        Also write 255 · softmax(logits / temperature) of the winning class, uint8, as ``labels/<name>/confidence``;
        the temperature is that of the model's package, 1 where it has none.
    plane, channel, level : optional
        Which plane, channel and pyramid level of the file to take.
    resume : bool
        Continue an unfinished run of the same input, model and settings; False starts again.
    overwrite : bool
        Replace a finished output of this name, once the new one is complete.
    progress : bool or callable
        True prints lines on stderr; a callable gets a :class:`ProgressEvent` after every block.
    client : distributed.Client, optional
        Run on a dask cluster whose workers have this version of the package and see the input and the output folder.
    crop_bar : {"auto"} or int, optional
        Leave out the annotation bar at the foot of an SEM picture: found, or so many rows.
    with_image : bool
        For a source that is not an OME-Zarr: copy the image, with a pyramid, into the new OME-Zarr.
    ome_version : {"0.5", "0.4"}, optional
        Version to write; default: that of the source where it is an OME-Zarr, otherwise 0.5.
    storage_options : dict, optional
        For fsspec URLs, such as ``{"anon": True}``.

    Returns
    -------
    Segmentation
        Path, labels, counts and fractions, plan, speed, provenance.

    Raises
    ------
    BainiteError
        A subclass says what came, what is needed and the remedy. Nothing is written before the input is checked.
    """
    settings: dict[str, Any] = {
        "device": device, "precision": precision, "runtime": runtime, "edge": edge, "scale": scale, "tile": tile,
        "memory": memory, "confidence": confidence, "resume": resume, "overwrite": overwrite, "with_image": with_image,
    }  # fmt: skip
    choice = Choice(source, model, normalize, plane, channel, level, crop_bar, storage_options)
    with _opened(choice, settings, client) as (prepared, executor):
        target = resolve_target(prepared, out, name, ome_version)
        return execute(prepared, target, executor, reporter(progress))


def look_ahead(
    source: Any,
    model: Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str = "phases",
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torchscript",
    edge: str = "mirror",
    scale: str | float = "auto",
    normalize: tuple[Any, Any] | None = None,
    tile: int | None = None,
    memory: int | float | str | None = None,
    confidence: bool = False,
    plane: Any = None,
    channel: int | str | None = None,
    level: int = 0,
    resume: bool = True,
    overwrite: bool = False,
    client: Any = None,
    crop_bar: Any = None,
    with_image: bool = False,
    ome_version: str | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Outlook:
    """Return what :func:`segment` would do with the same arguments, and about how long it would take; write nothing.

    Parameters
    ----------
    source, model, out, name, device, precision, runtime, edge, scale, normalize, tile, memory, confidence, plane, \
channel, level, resume, overwrite, client, crop_bar, with_image, ome_version, storage_options
        As in :func:`segment`.

    Returns
    -------
    Outlook
        The plan, that of an unfinished run where one would be gone on with; the place of the output, and the time.

    Raises
    ------
    BainiteError
        Where :func:`segment` would refuse the input, the settings, or what lies at the place of the output.
    """
    settings: dict[str, Any] = {
        "device": device, "precision": precision, "runtime": runtime, "edge": edge, "scale": scale, "tile": tile,
        "memory": memory, "confidence": confidence, "resume": resume, "overwrite": overwrite, "with_image": with_image,
    }  # fmt: skip
    choice = Choice(source, model, normalize, plane, channel, level, crop_bar, storage_options)
    with _opened(choice, settings, client) as (prepared, executor):
        target = resolve_target(prepared, out, name, ome_version, repair=False)
        return outlook(prepared, target, executor)


@contextmanager
def _opened(choice: Choice, settings: dict[str, Any], client: Any) -> Iterator[tuple[Prepared, Executor]]:
    """Check the settings and the cluster, open the mosaic and load the model; close the mosaic at the end."""
    executor: Executor = ThreadExecutor()
    if client is not None:
        executor = cluster = ClusterExecutor(client)
        cluster.check()
        if settings["memory"] is None:
            settings["memory"] = cluster.memory
    with prepare(choice, check_request(**settings)) as prepared, serial_threads():
        yield prepared, executor


def plan(
    source: Any,
    model: Any = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torchscript",
    edge: str = "mirror",
    scale: str | float = "auto",
    normalize: tuple[Any, Any] | None = None,
    tile: int | None = None,
    memory: int | float | str | None = None,
    confidence: bool = False,
    plane: Any = None,
    channel: int | str | None = None,
    level: int = 0,
    crop_bar: Any = None,
    storage_options: dict[str, Any] | None = None,
) -> Plan:
    """Return the plan that :func:`segment` would follow, without writing anything.

    Parameters
    ----------
    source, model, device, precision, runtime, edge, scale, normalize, tile, memory, confidence, plane, channel, \
level, crop_bar, storage_options
        As in :func:`segment`.

    Returns
    -------
    Plan
        Prints as a table.
    """
    request = check_request(
        device=device,
        precision=precision,
        runtime=runtime,
        edge=edge,
        scale=scale,
        tile=tile,
        memory=memory,
        confidence=confidence,
        resume=False,
        overwrite=False,
        with_image=False,
    )
    choice = Choice(source, model, normalize, plane, channel, level, crop_bar, storage_options)
    with prepare(choice, request) as prepared:
        return prepared.plan(None)
