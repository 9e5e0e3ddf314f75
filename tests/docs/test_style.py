"""Check that texts use plain words; CONTRIBUTING.md has the rules."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_SUFFIXES = {"", ".css", ".html", ".js", ".md", ".py", ".toml", ".yaml", ".yml"}


def _words(pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    """Return a pattern for whole words, in names too; a phrase may continue on the next line of a comment."""
    separated = pattern.replace(" ", r"[\s#*_]+")
    return re.compile(rf"(?<![A-Za-z])(?:{separated})(?![A-Za-z])", flags)


_BANNED = {
    "tell": _words(r"tell(?!\()|tells|telling|told"),  # `file.tell()` is fine
    "say": _words("says?|saying|said"),
    "come": _words("comes?|coming(?!.from.`?hca)|came"),  # a page has that title
    "go on": _words("(?:go|goes|going|gone|went) on"),
    "begun": _words("begun"),
    "odd": _words("odd|oddly|oddity|oddities"),
    "somebody": _words("(?:some|any|no|every)body|whoever|whom"),
    "of which": _words("of which"),
    "is none": _words("(?:is|are|has|have|was|be) none", re.RegexFlag(0)),  # `None` is fine
    "as it is": _words("as (?:it is|they are)"),
    "it is there": _words("(?:it is|they are) there"),
    "for good": _words("for (?:good|ever)"),
    "as good as": _words("as good as"),
    "is to be": _words("(?:was|were|is|are) to (?:be|have)"),
}
_SUMMARY = re.compile(r"(?:What|Which|Who|Whose|Where|When|Whether|Why|How|Of)\b")

# Path -> banned word -> reason.
_ALLOWED: dict[str, dict[str, str]] = {
    "CONTRIBUTING.md": {"tell": "the rule quotes it"},
    "tests/docs/test_style.py": dict.fromkeys(_BANNED, "the rule itself"),
}


@cache
def _texts() -> dict[str, str]:
    """Return the text files of the project by their paths."""
    paths = [*_ROOT.glob("*.md"), _ROOT / "pyproject.toml", *(_ROOT / ".github").rglob("*")]
    for folder in ("airflow_provider_hca", "docs", "example_dags", "scripts", "tests"):
        paths += (_ROOT / folder).rglob("*")
    return {
        path.relative_to(_ROOT).as_posix(): path.read_text()
        for path in paths
        if path.is_file() and path.suffix in _SUFFIXES
    }


def _banned_in(text: str) -> dict[str, list[str]]:
    """Return the banned words of a text, each with the lines where it is."""
    return {
        word: [f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}" for match in pattern.finditer(text)]
        for word, pattern in _BANNED.items()
        if pattern.search(text)
    }


def test_texts_use_plain_words() -> None:
    offences = [
        f"{path}:{line}"
        for path, text in _texts().items()
        for word, lines in _banned_in(text).items()
        if word not in _ALLOWED.get(path, {})
        for line in lines
    ]
    assert offences == []


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    offences = []
    for path, text in _texts().items():
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                if _SUMMARY.match(summary):
                    offences.append(f"{path}:{getattr(node, 'lineno', 1)}: {summary!r}")
    assert offences == []


def test_every_exception_is_needed() -> None:
    """An exception leaves the list above when its reason is gone."""
    needless = [
        f"{path}: {word}"
        for path, words in _ALLOWED.items()
        for word in words
        if word not in _banned_in(_texts().get(path, ""))
    ]
    assert needless == []
