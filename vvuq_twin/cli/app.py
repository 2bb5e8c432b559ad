"""The commands. Thin: parse, call, show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="vvuq-twin", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Digital twins of tumours: assimilate scans, forecast with error bars, and prove it.",
)  # fmt: skip


def _version(show: bool) -> None:
    if show:
        from .. import __version__

        typer.echo(f"vvuq-twin {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Digital twins of tumours: assimilate scans, forecast with error bars, and prove it."""


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file (or the folder that holds study.yaml).")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<study> by default.")] = None,
    data: Annotated[Path | None, typer.Option(help="Patient folder or table to run on.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes; the numbers do not depend on it.")] = 2,
    cluster: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to use.")] = None,
    assimilate: Annotated[
        int | None, typer.Option(help="Visits to assimilate; later ones are scored.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Run a study; an interrupted run of the same study goes on where it stopped."""
    from ..study.workflow import Options, run_study
    from .progress import bars

    with bars(quiet) as progress:
        folder = run_study(study, out, Options(data, workers, cluster, assimilate, progress))
    if not quiet:
        _headline(folder.path)
    typer.echo(f"report: {folder.path / 'report.html'}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Make the report again from what the run left."""
    from ..study.workflow import write_report

    typer.echo(f"report: {write_report(run)}")


@app.command()
def check(patient: Annotated[Path, typer.Argument(help="A patient folder.")]) -> None:
    """Say in plain words whether a patient folder is usable, and what is wrong with it."""
    from ..imaging.check import check_patient
    from ..study.resolution import resolution

    findings = check_patient(patient)
    for finding in findings:
        typer.echo(f"{finding.level}: {finding.sentence}")
    errors = sum(f.level == "error" for f in findings)
    for sentence in [] if errors else resolution(patient):
        typer.echo(f"length: {sentence}")
    warnings = sum(f.level == "warning" for f in findings)
    verdict = "usable" if not errors else "not usable"
    typer.echo(f"{patient}: {verdict} ({errors} errors, {warnings} warnings)")
    if errors:
        raise typer.Exit(2)


@app.command("import")
def import_(
    dicom: Annotated[Path, typer.Argument(help="A folder with a DICOM export; folders below it count.")],
    out: Annotated[Path, typer.Option(help="Patient folder to write; its name is the pseudonym.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what each series would become, and write nothing.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Make a patient folder from a DICOM export: sorted, with proposed roles, and without names."""
    from ..imaging.dicom.intake import import_dicom, require_free
    from ..imaging.dicom.plan import plan_import
    from .importing import show
    from .progress import bars

    require_free(out)
    with bars(quiet) as progress:
        plan = plan_import(dicom, progress) if dry_run else import_dicom(dicom, out, progress)
    show(plan, table=dry_run)
    if plan.faults:
        raise typer.Exit(2)
    if not dry_run:
        typer.echo(f"patient: {out / 'patient.yaml'} (vvuq-twin check {out})")


@app.command()
def quantify(
    patient: Annotated[
        Path, typer.Argument(help="A patient folder, or one dynamic series with acquisition.json.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for maps and numbers; PATIENT/quantified by default.")
    ] = None,
    model: Annotated[str, typer.Option(help="Tracer model of dynamic series.")] = "extended_tofts",
    input_: Annotated[
        str, typer.Option("--input", help="Population input where no artery is outlined.")
    ] = "parker",
    nuclide: Annotated[str, typer.Option(help="Nuclide of a therapy's dose.")] = "lutetium177",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Maps with a standard error per voxel, sizes, response and features from a patient's scans."""
    from ..imaging.quantified import write_quantified
    from ..imaging.quantify import Options
    from ..imaging.quantify import quantify as compute
    from .progress import bars

    with bars(quiet) as progress:
        found = compute(patient, Options(input_, model, nuclide), progress)
    for note in (*found.notes, *(f"{v.id}: {n}" for v in found.visits for n in v.notes)):
        typer.echo(f"note: {note}")
    for visit in found.visits:
        if visit.maps:
            typer.echo(f"{visit.id}: " + ", ".join(visit.maps))
    typer.echo(f"numbers: {write_quantified(found, out or patient / 'quantified') / 'quantify.json'}")


@app.command()
def align(
    patient: Annotated[Path, typer.Argument(help="A patient folder.")],
    out: Annotated[Path, typer.Option(help="Patient folder to write, with all visits on the first's grid.")],
    kind: Annotated[str, typer.Option(help="rigid, affine or deformable.")] = "rigid",
    shading: Annotated[
        bool, typer.Option("--shading", help="Correct shading (N4) in the images that are compared.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Register a patient's later visits to the first, with the error of each registration."""
    from ..imaging.bring import bring_together, kind_of
    from .progress import bars

    with bars(quiet) as progress:
        brought = bring_together(patient, out, kind_of(kind), shading=shading, progress=progress)
    for visit in brought:
        typer.echo(visit.sentence)
    typer.echo(f"patient: {out / 'patient.yaml'} (vvuq-twin check {out})")


@app.command()
def look(
    patient: Annotated[Path, typer.Argument(help="A patient folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures; PATIENT/look by default.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Write one page of pictures per visit: three planes, masks and maps over anatomy."""
    from ..imaging.look import look_at
    from .progress import bars

    with bars(quiet) as progress:
        pages = look_at(patient, out, progress)
    for page in pages:
        typer.echo(f"page: {page}")


@app.command()
def export(
    patient: Annotated[Path, typer.Argument(help="A patient folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Write maps and masks as NIfTI and DICOM objects, and the tumour as VTK meshes."""
    from ..imaging.export import export_patient
    from .progress import bars

    with bars(quiet) as progress:
        files = export_patient(patient, out, progress)
    typer.echo(f"{len(files)} files: {out}")


@app.command()
def verify(
    only: Annotated[str | None, typer.Option(help="Only the checks whose name contains this.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The checks that take seconds.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the evidence to this file, or one file each to this folder.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; all processors by default.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Does the solver solve its equations? Runs the verification suite and prints its table."""
    from contextlib import nullcontext

    from ..ensemble import beside, cluster, here
    from ..ensemble.cluster import default_workers
    from ..verification import run_suite
    from .progress import bars

    workers = workers or default_workers()
    # a few checks are done before a worker has started
    alone = only is not None or workers == 1
    with bars(quiet) as progress, nullcontext() if alone else cluster(workers) as client:
        evidence = run_suite(
            only=only,
            quick=quick,
            progress=lambda done, total: progress("verify", done, total),
            begin=here if alone else beside(client),
        )
    if json is not None:
        from dataclasses import asdict
        from json import dumps

        from ..domain.files import write_text

        if json.is_dir() or json.suffix == "":
            json.mkdir(parents=True, exist_ok=True)
            for e in evidence:
                e.write(json)
        else:
            write_text(json, dumps([asdict(e) for e in evidence], indent=1, default=str) + "\n")
    _verification_table(evidence)
    failed = sum(e.status == "failed" for e in evidence)
    unknown = sum(e.status == "not assessed" for e in evidence)
    left = f", {unknown} not assessed" if unknown else ""
    typer.echo(f"{len(evidence) - failed - unknown} of {len(evidence)} checks passed{left}")
    if failed:
        raise typer.Exit(1)


def _verification_table(evidence: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "claim", "expected", "observed", "verdict", show_lines=True)
    for e in evidence:
        observed = ", ".join(f"{k} {_short(v)}" for k, v in e.result.items())
        table.add_row(e.id, e.claim, e.acceptance, observed, e.status)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return str(value)


def _headline(folder: Path) -> None:
    """The first page's numbers as a table."""
    from json import loads

    from rich.console import Console
    from rich.table import Table

    path = folder / "summary.json"
    if not path.exists():
        return
    table = Table("number", "of", "value", "interval", "unit")
    for row in loads(path.read_text()):
        interval = row["interval"]
        band = f"{_short(interval[0])} to {_short(interval[1])}" if interval else ""
        table.add_row(row["name"], row["of"], _short(row["value"]), band, row["unit"])
    Console(width=None if sys.stdout.isatty() else 120).print(table)
