"""Compare the page about validation with the code."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import get_args

from airflow_provider_hca.validation.report import Check, ValidationReport
from tests.validation.samples import bundle, write, write_schemas

_PAGE = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()


def _column(heading: str) -> set[str]:
    """Return the code in the first column of a table."""
    table = _PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE))


def test_page_has_every_check() -> None:
    assert _column("check") == set(get_args(Check))


def test_page_has_every_item_of_the_report() -> None:
    assert _column("item") == set(ValidationReport("/d").as_json())


def test_snippet_prints_report(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    directory, schemas = write(tmp_path / "bundle", bundle()), write_schemas(tmp_path / "schemas")
    for path, real in (("/data/experiment_42", directory), ("/data/schemas", schemas)):
        assert path in snippet
        snippet = snippet.replace(path, str(real))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet, "validation.md", "exec"), {})  # noqa: S102 - a snippet of the page
    assert printed.getvalue() == f"{directory}: documents: 5 valid, 0 invalid; findings: 0 errors, 0 warnings\n"
