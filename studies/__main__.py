"""`python -m studies`: list the studies, run what one lacks, or make the pages of their lines."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dropmax import _check
from dropmax.cli import run_app
from dropmax.errors import DropmaxFileNotFoundError
from studies import load_study, progress_of, run_study, update_pages

__all__ = ["main", "studies"]

app = typer.Typer(add_completion=False)


@app.command()
def studies(
    name: Annotated[
        str | None, typer.Argument(help="A study, or tables; the studies are listed if none.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="The directory of NAME.yaml, and of results/ with the lines.")
    ] = Path("studies"),
    jobs: Annotated[int, typer.Option(help="Number of runs at once.")] = 1,
    threads: Annotated[int | None, typer.Option(help="Of each run; cores / jobs.")] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where folders of data are; DROPMAX_DATA if not given.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Run what a study lacks, list the studies, or make the tables of their lines anew."""
    files = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if not files:
        must, remedy = "hold the studies, YAML files", "name that directory"
        _check.fail("--folder", must, str(folder), remedy, error=DropmaxFileNotFoundError)
    results = folder / "results"
    if name is None:
        for file in files.values():
            study = load_study(file)
            done, total, hours = progress_of(study, results)
            left = f"{hours:.1f} core-hours left" if done < total else "whole"
            typer.echo(f"{study.name:12} {done:3} of {total:3} runs, {left}: {study.title}")
        return
    if name == "tables":
        for changed in update_pages(folder.resolve().parent):
            typer.echo(changed)
        return
    _check.choice("NAME", name, ["tables", *files])
    study = load_study(files[name])
    run_study(study, results, root=data_root, jobs=jobs, threads=threads, progress=not quiet)
    typer.echo(f"Lines: {results / name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, as `dropmax.cli.main` does."""
    return run_app(lambda: app, "studies", arguments)


if __name__ == "__main__":
    sys.exit(main())
