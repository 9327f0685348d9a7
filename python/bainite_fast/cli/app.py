"""The program: its commands, and what happens when one fails."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from .._version import __version__
from ..errors import BainiteError, BainiteWarning
from . import (
    _bench,
    _demo,
    _doctor,
    _ebsd,
    _evaluate,
    _export,
    _files,
    _models,
    _search,
    _segment,
    _study,
    _synth,
    _train,
)
from ._console import say
from ._interrupt import EXIT_INTERRUPTED
from ._wording import as_options

EXIT_FAILED = 1


class Program(TyperGroup):
    """A group of commands that reports errors as one line, with a traceback only under ``--debug``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take ``--debug`` out of the arguments, then read the rest."""
        # People add --debug at the end of the line that just failed, so it counts wherever it stands.
        words = args[: args.index("--")] if "--" in args else args
        ctx.ensure_object(dict)["debug"] = "--debug" in words
        kept = [word for word in words if word != "--debug"] + args[len(words) :]
        parsed: list[str] = super().parse_args(ctx, kept)
        return parsed

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn what went wrong into a line on stderr and an exit status."""
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning if ctx.obj["debug"] else _show_own_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                say("interrupted")
                raise typer.Exit(EXIT_INTERRUPTED) from None
            except BrokenPipeError:
                raise  # the reader of stdout left (`| head`); click ends the program quietly
            except (BainiteError, OSError, MemoryError, ImportError) as error:
                if ctx.obj["debug"]:
                    traceback.print_exception(error, file=sys.stderr)
                if isinstance(error, ImportError) and not isinstance(error, BainiteError):
                    say("this installation is incomplete: `bainite-fast doctor` says what is broken")
                say(f"error: {as_options(_one_line(error))}")
                raise typer.Exit(EXIT_FAILED) from None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {as_options(' '.join(str(message).split()))}")


def _show_own_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # Other packages' warnings are for developers, who have --debug.
    if issubclass(category, BainiteWarning):
        _show_warning(message, category, filename, lineno)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"bainite-fast {__version__}")
        raise typer.Exit()


app = typer.Typer(
    name="bainite-fast",
    cls=Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Segment micrograph mosaics of steel: exactly, in bounded memory, resumable.

    Results go to stdout (--json: one JSON object), progress and warnings to stderr. Exit status: 0 done, 1 failed,
    2 wrong usage, 3 a quality-control limit failed, 130 interrupted.
    """


for _command, _summary in (
    (_segment.segment, "A mosaic to a label image beside it."),
    (_demo.demo, "The whole chain on a mosaic drawn for it."),
    (_files.info, "What a file or a model holds."),
    (_files.convert, "A mosaic of any format to OME-Zarr."),
    (_export.export, "Labels, or a model, for other programs."),
    (_models.models, "The models in the box."),
    (_synth.synth, "A synthetic mosaic, with its true mask."),
    (_train.train, "Annotated images to a model."),
    (_evaluate.evaluate, "The scores of a model."),
    (_evaluate.agree, "How far two annotators agree."),
    (_study.cross_validate, "A recipe on every fold."),
    (_study.study, "The paper's tables and figures."),
    (_search.search, "The values of a recipe that train best."),
    (_train.recipes, "The training recipes in the box."),
    (_bench.bench, "How fast this installation is, and why."),
    (_doctor.doctor, "What this installation can do."),
):
    app.command(short_help=_summary)(_command)
app.add_typer(_ebsd.ebsd, name="ebsd", short_help="EBSD scans: read, clean, KAM, grains, maps.")


def main() -> None:
    """Run the program on the arguments of this process, and exit."""
    app()
