"""What an import would do, or did, on the screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..imaging.dicom.plan import Plan
    from ..imaging.dicom.propose import Proposal


def show(plan: Plan, *, table: bool) -> None:
    """Print the table of series, then what is left out, then every fault.

    The table quotes the scanner's description, which may name somebody: it goes to the screen and nowhere else.
    """
    if table:
        _table(plan)
    for note in plan.notes:
        typer.echo(f"note: {note}")
    for fault in plan.faults:
        typer.echo(f"error: {fault}", err=True)


def _table(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("visit", "day", "series", "role", "unit", "voxels", "mm", "description")
    for visit in plan.visits:
        for proposal in sorted((*visit.images, *visit.others), key=lambda p: p.stack.series[0].number):
            used = proposal in visit.images
            table.add_row(visit.id, f"{visit.day}", *_row(proposal, used))
        for outline, grid in visit.outlines:
            table.add_row(
                visit.id,
                f"{visit.day}",
                f"{outline.number}",
                outline.role,
                "",
                _size(grid.shape),
                "",
                "outline",
            )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _row(proposal: Proposal, used: bool) -> list[str]:
    stack = proposal.stack
    first, last = stack.series[0].number, stack.series[-1].number
    volumes = f"{len(stack.volumes)} of " if len(stack.volumes) > 1 else ""
    return [
        f"{first}" if first == last else f"{first}-{last}", proposal.role if used else "-",
        (proposal.unit or "unknown") if used else "", volumes + _size(stack.grid.shape),
        " x ".join(f"{h:.3g}" for h in stack.grid.spacing),
        f"{stack.series[0].description} {stack.component}".strip(),
    ]  # fmt: skip
