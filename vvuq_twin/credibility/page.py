"""The credibility report: one HTML file that opens offline, made only from what a run left in its folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..domain.files import write_text
from .context import context
from .read import read_run

if TYPE_CHECKING:
    from jinja2 import Environment


def report(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder.

    The page is a function of the folder's files alone (no date of rendering, nothing from the network),
    so that the same folder gives the same bytes. What is missing or broken in the folder is said on the
    page.

    Parameters
    ----------
    run_folder : Path
        A run folder, finished or interrupted.

    Returns
    -------
    Path
        ``report.html`` in the run folder.

    Raises
    ------
    BadInput
        If it is not a run folder, or the page cannot be written into it.
    """
    folder = Path(run_folder)
    return write_text(folder / "report.html", render(folder))


def render(run_folder: Path) -> str:
    """The page as text; see :func:`report`."""
    record = read_run(run_folder)
    return str(_environment().get_template("page.html.j2").render(context(record)))


@cache
def _environment() -> Environment:
    """Templates of the package, every value escaped and every unknown name an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from . import numbers

    environment = Environment(
        loader=PackageLoader("vvuq_twin.credibility"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": numbers.number,
        "count": numbers.count,
        "interval": numbers.interval,
        "unit": numbers.unit,
        "percent": numbers.percent,
    }
    return environment
