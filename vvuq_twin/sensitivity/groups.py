"""Groups of parameters whose influence is reported together (all modes of an initial field, say)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.parameters import ParameterSpace

Groups = Mapping[str, Sequence[str]]


def grouped(space: ParameterSpace, groups: Groups | None) -> tuple[tuple[str, ...], np.ndarray]:
    """The factors of an analysis and which of them each parameter belongs to.

    Parameters
    ----------
    space : ParameterSpace
    groups : mapping of str to list of str, optional
        Group name to names or patterns of parameters ("growth_noise_*"). A parameter in no group is a
        factor of its own.

    Returns
    -------
    names : tuple of str
        Factors in the order of their first parameter.
    membership : ndarray of int, shape (p,)
        Factor number of each parameter.

    Raises
    ------
    BadInput
        If a pattern fits no parameter, a parameter is in two groups, or a group has a parameter's name
        without holding it.
    """
    owner: dict[str, str] = {}
    for group, patterns in (groups or {}).items():
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            hits = [name for name in space.names if fnmatchcase(name, pattern)]
            if not hits:
                problem = f"no parameter is called '{pattern}'"
                raise BadInput(problem, f"sensitivity group '{group}'", near(pattern, space.names))
            for name in hits:
                if owner.setdefault(name, group) != group:
                    raise BadInput(
                        f"the parameter '{name}' is in two groups ('{owner[name]}' and '{group}')",
                        "sensitivity groups",
                    )
    labels = [owner.get(name, name) for name in space.names]
    for group in set(owner.values()):
        if group in space.names and owner.get(group) != group:
            raise BadInput(
                f"the group '{group}' has the name of a parameter outside it", "sensitivity groups"
            )
    names = tuple(dict.fromkeys(labels))
    return names, np.array([names.index(label) for label in labels])


def dependent(space: ParameterSpace, membership: np.ndarray) -> bool:
    """Whether parameters of different factors are correlated, so that variance has no unique split."""
    if space.correlation is None:
        return False
    across = membership[:, None] != membership[None, :]
    return bool((np.abs(np.asarray(space.correlation)[across]) > 1e-12).any())
