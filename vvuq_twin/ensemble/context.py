"""Heavy things a batch needs (a reduced model, a grid), named by a few words and loaded once a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KEPT: OrderedDict[tuple[str, str], Any] = OrderedDict()
_MOST = 4  # a worker keeps the last few: studies use one or two, and each may be large


@dataclass(frozen=True)
class Context:
    """A small, picklable description of something large.

    Parameters
    ----------
    loader : callable
        Importable function that builds the thing from ``arguments`` (it reads a file, compiles a model).
    arguments : tuple
        Plain values: paths as text, names, numbers.
    content : str
        Hash of what ``arguments`` point to, for example the SHA-256 of a file
        (:func:`vvuq_twin.domain.files.sha256`). It, not the path, identifies a finished batch, so
        that a run folder may be moved; without it the arguments do.
    """

    loader: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    content: str = ""

    def __fingerprint__(self) -> str:
        from ..domain.fingerprint import fingerprint

        return fingerprint(self.loader, self.content or self.arguments)

    def load(self) -> Any:
        """The thing itself, from this process's cache if it was loaded before."""
        from ..domain.fingerprint import fingerprint

        key = (self.__fingerprint__(), fingerprint(self.arguments))
        if key in _KEPT:
            _KEPT.move_to_end(key)
        else:
            _KEPT[key] = self.loader(*self.arguments)
            while len(_KEPT) > _MOST:
                _KEPT.popitem(last=False)
        return _KEPT[key]


def resolve(context: Any) -> Any:
    """What a batch function sees: a loaded :class:`Context`, or the plain value as it is."""
    return context.load() if isinstance(context, Context) else context
