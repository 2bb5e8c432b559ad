"""The examples of the pages on assimilation and scores, and those in docstrings, run."""

import doctest
import re
from pathlib import Path

import pytest

from vvuq_twin.assimilation import esmda
from vvuq_twin.scores import probability

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["assimilation.md", "scores.md"])
def test_examples_of_the_page_run(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}  # a later example goes on from an earlier one
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("module", [esmda, probability])
def test_docstring_examples_hold(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
