"""`semantic-stereo`: the pipeline over files, from a terminal. Each verb lives in a file of its own."""

from __future__ import annotations

import errno
import logging
import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from semantic_stereo_ros import __version__
from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.cli import backends, bench, demo, doctor, evaluate, export, run, soak, weights

app = typer.Typer(
    name="semantic-stereo",
    help="""Distances with uncertainty, per object, from a stereo camera.

    Start with [bold]semantic-stereo demo[/bold] (needs no camera), then
    [bold]semantic-stereo run left.png right.png --calibration calib.txt --output out[/bold].
    [bold]semantic-stereo doctor[/bold] says what this machine has and what is missing.""",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run", no_args_is_help=True)(run.run)
app.command("eval", no_args_is_help=True)(evaluate.evaluate)
app.command("demo")(demo.demo)
app.command("bench")(bench.bench)
app.command("soak")(soak.soak)
app.command("backends")(backends.backends)
app.command("doctor")(doctor.doctor)
app.add_typer(weights.app, name="weights")
app.add_typer(export.app, name="export")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show the log of the stages."),
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Entry point: every error that a user can mend ends in one sentence on stderr and exit status 1.

    So does what the system says of a file, or of a disk that is full; --verbose shows where it happened.
    """
    try:
        app()
    except SemanticStereoError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        logging.getLogger(__name__).info("where it happened:", exc_info=True)
        _fail(
            f"{error.filename}: {error.strerror}"
            if error.filename is not None
            else f"{error.strerror}: free some, or choose another output"
        )


def _fail(sentence: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/bold red] {escape(sentence)}", highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
