"""`semantic-stereo weights`: published weights by name: what there is, download, check, where they lie."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.weights import cache
from semantic_stereo_ros.weights.catalogue import CATALOGUE, NOWHERE, Weights, find
from semantic_stereo_ros.weights.download import download, size_of

app = typer.Typer(
    no_args_is_help=True,
    help=f"""Weights of the neural backends, by name: list, download, verify, path.

    None is part of this package; each has its own licence, shown before it is used. They lie in the folder of ${cache.VARIABLE},
    else in the cache folder of this system (XDG_CACHE_HOME). Files may be put there by hand on a machine without a network.""",
)
Names = typer.Argument(None, help="Names as `weights list` shows them.")


@app.command("list")
def list_weights() -> None:
    """What there is: name, size, licence, whose hash it is checked with, and whether it is here."""
    table = Table(title=f"Weights in {cache.cache_folder()}", caption="research only: no commercial use (see the licence)")
    for column in ("name", "MB", "licence", "SHA-256", "here"):
        table.add_column(column, overflow="fold", justify="right" if column == "MB" else "left", no_wrap=column in ("name", "MB"))
    for weights in CATALOGUE.values():
        licence = weights.licence.name + ("" if weights.licence.commercial else " (research only)")
        hashed = "none published" if weights.hash_from == NOWHERE else f"from {weights.hash_from}"
        table.add_row(weights.name, f"{weights.size_bytes / 1e6:.0f}", licence, hashed, _state(weights))
    console = Console(soft_wrap=True)
    console.print(table, soft_wrap=False)
    console.print("official sources:")
    for weights in CATALOGUE.values():
        console.print(f"  {weights.name}: {weights.url or weights.page}", highlight=False)


@app.command("download", no_args_is_help=True)
def download_weights(names: list[str] = Names) -> None:
    """Download weights into the cache and check them; goes on where an earlier download stopped.

    FoundationStereo's weights have no address that could be downloaded from: the error says which file to put where.
    """
    wanted = [find(name) for name in names]
    console = Console(stderr=True, soft_wrap=True)
    for weights in wanted:
        console.print(f"{weights.name}: {_licence(weights)}", highlight=False)
        with _bar(console) as bar:
            task = bar.add_task(weights.name, total=weights.size_bytes)
            path = download(weights, lambda done, task=task: bar.update(task, completed=done))
        typer.echo(path)


@app.command("verify")
def verify_weights(names: list[str] = Names) -> None:
    """Read files in the cache again and compare size and SHA-256; without names, all that are here. Exit status 1 if one is wrong."""
    wanted = [find(name) for name in names] if names else [w for w in CATALOGUE.values() if cache.path_of(w).is_file()]
    console = Console(stderr=True, soft_wrap=True)
    if not wanted:
        console.print(f"no weights are in {escape(str(cache.cache_folder()))}", highlight=False)
    wrong = 0
    for weights in wanted:
        try:
            typer.echo(f"{weights.name}: {_verified(weights, console)}")
        except InputFileError as error:
            wrong += 1
            console.print(f"[bold red]error:[/bold red] {escape(str(error))}", highlight=False)
    if wrong:
        raise typer.Exit(1)


@app.command("path")
def path_of_weights(name: str = typer.Argument(..., help="A name as `weights list` shows it.")) -> None:
    """Print where a file lies, checked; when it is missing, the error says where to put it."""
    typer.echo(cache.locate(name))


def _verified(weights: Weights, console: Console) -> str:
    path = cache.path_of(weights)
    if not path.is_file():
        raise InputFileError(f"{weights.name} is not here: {cache.where_to_put(weights)}")
    with _bar(console) as bar:
        task = bar.add_task(weights.name, total=weights.size_bytes)
        return cache.verify(weights, path, lambda count: bar.advance(task, count), again=True)


def _licence(weights: Weights) -> str:
    return f"{weights.licence.name}, {weights.licence.summary}; {weights.page}"


def _state(weights: Weights) -> str:
    path = cache.path_of(weights)
    if cache.is_here(weights):
        return "yes"
    if path.is_file():
        return "wrong size"
    part = Path(f"{path}.part")
    return f"{size_of(part) / weights.size_bytes:.0%}" if part.is_file() else "no"


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
