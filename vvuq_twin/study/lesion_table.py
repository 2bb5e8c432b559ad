"""The table of lesion diameters: read, checked, and laid out as padded arrays."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.units import convert

#: Columns every table must have besides the diameter's.
NEEDED = ("patient", "day")
DIAMETER = "diameter_"


@dataclass(frozen=True)
class LesionTable:
    """Diameters of P patients, padded to the longest series.

    Parameters
    ----------
    patient : tuple of str
    visits : ndarray of int, shape (P,)
    day : ndarray, shape (P, V)
        Days since the start of treatment; NaN beyond a patient's visits.
    diameter_mm : ndarray, shape (P, V)
        0 = below detection; NaN beyond a patient's visits.
    group : ndarray of int, shape (P,)
        Trial the patient belongs to (0 where the table has no column ``study``).
    mended : tuple of str
        Patients whose days were put in order.
    """

    patient: tuple[str, ...]
    visits: np.ndarray
    day: np.ndarray
    diameter_mm: np.ndarray
    group: np.ndarray
    mended: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.patient)

    def take(self, rows: np.ndarray) -> LesionTable:
        """Some of the patients."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return LesionTable(
            tuple(self.patient[i] for i in rows), self.visits[rows], self.day[rows], self.diameter_mm[rows],
            self.group[rows], self.mended,
        )  # fmt: skip


def read_lesions(path: Path, irregular: Iterable[str] = ()) -> LesionTable:
    """Read a table with columns ``patient``, ``day``, ``diameter_<unit>`` and, optionally, ``study``.

    Parameters
    ----------
    path : Path
        A CSV file, or a folder with exactly one.
    irregular : iterable of str
        Patients whose days are known not to increase: their rows are sorted by day, and a row that repeats
        day and diameter counts once. Every other patient must be in order.

    Raises
    ------
    BadInput
        If the file, a column, the unit, a number or the order of the days is wrong.
    """
    path = _file(Path(path))
    unit_column, lines = _rows(path)
    known = set(irregular)
    unit = unit_column.removeprefix(DIAMETER)
    series: dict[str, list[tuple[float, float, int]]] = {}
    group: dict[str, str] = {}
    for number, row in lines:
        where = f"{path.name}: line {number}"
        name = (row["patient"] or "").strip()
        if not name:
            raise BadInput("the patient has no name", where, "fill the column 'patient'")
        day = _number(row["day"], where, "day")
        given = _number(row[unit_column], where, unit_column)
        # nothing is measured to a nanometre: keep a converted 1.1 cm a whole 11 mm
        diameter = round(float(convert(given, unit, "mm", f"{path.name}: {unit_column}")), 6)
        if diameter < 0:
            raise BadInput(
                f"the diameter is negative ({diameter:g} mm)", where, "give 0 for a lesion not seen any more"
            )
        rows = series.setdefault(name, [])
        if rows and day <= rows[-1][0] and name not in known:
            raise BadInput(
                f"the days of patient {name} do not increase ({rows[-1][0]:g} is followed by {day:g})", where,
                "put the visits in order, one row a day, or name the patient under irregular_days",
            )  # fmt: skip
        if group.setdefault(name, row.get("study") or "") != (row.get("study") or ""):
            raise BadInput(f"patient {name} belongs to two trials", where, "use one name per patient")
        rows.append((day, diameter, number))
    if not series:
        raise BadInput("the table has no rows", str(path.name), "give one row per patient and visit")
    mended = tuple(n for n in series if n in known and _mend(series, n, path.name))
    return _padded(series, group, mended)


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise BadInput("the table does not exist", str(path), "check the path")
        return path
    found = sorted(path.glob("*.csv"))
    if len(found) != 1:
        raise BadInput(
            f"the folder holds {len(found)} CSV files instead of one", str(path), "name the table itself"
        )
    return found[0]


def _rows(path: Path) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """The diameter column's name, and the rows with their line numbers."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as source:
            reader = csv.DictReader(source, restkey="")
            columns = [c.strip() for c in reader.fieldnames or []]
            reader.fieldnames = columns
            lines = [(reader.line_num, row) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput("the table cannot be read", str(path), "give a CSV file in UTF-8") from error
    for name in NEEDED:
        if name not in columns:
            raise BadInput(
                f"the column '{name}' is missing", path.name, near(name, columns) if columns else "add it"
            )
    diameters = [c for c in columns if c.startswith(DIAMETER)]
    if len(diameters) != 1:
        raise BadInput(
            f"there are {len(diameters)} columns of diameters",
            path.name,
            "name one with its unit, for example 'diameter_mm'",
        )
    for number, row in lines:
        if "" in row or None in row.values():
            raise BadInput(
                f"the line has not {len(columns)} fields", f"{path.name}: line {number}", "mend the commas"
            )
    return diameters[0], lines


def _number(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise BadInput(
            f"'{text}' in column '{column}' is not a number", where, "mend the cell or drop the row"
        ) from error
    if not math.isfinite(value):
        raise BadInput(
            f"the value in column '{column}' is not finite", where, "mend the cell or drop the row"
        )
    return value


def _mend(series: dict[str, list[tuple[float, float, int]]], name: str, file: str) -> bool:
    """Sort a patient's rows and drop exact repeats; True if anything changed."""
    before = series[name]
    rows: list[tuple[float, float, int]] = []
    for row in sorted(before, key=lambda r: (r[0], r[2])):
        if rows and rows[-1][0] == row[0]:
            if rows[-1][1] != row[1]:
                raise BadInput(
                    f"patient {name} has two diameters on day {row[0]:g} ({rows[-1][1]:g} and {row[1]:g} mm)",
                    f"{file}: line {row[2]}", "keep one of them",
                )  # fmt: skip
            continue
        rows.append(row)
    series[name] = rows
    return rows != before


def _padded(
    series: dict[str, list[tuple[float, float, int]]], group: dict[str, str], mended: tuple[str, ...]
) -> LesionTable:
    names = sorted(series)
    visits = np.array([len(series[n]) for n in names])
    day = np.full((len(names), visits.max()), np.nan)
    diameter = np.full_like(day, np.nan)
    for i, name in enumerate(names):
        for j, (t, d, _) in enumerate(series[name]):
            day[i, j], diameter[i, j] = t, d
    kinds = sorted(set(group.values()))
    codes = np.array([kinds.index(group[n]) for n in names])
    return LesionTable(tuple(names), visits, day, diameter, codes, mended)
