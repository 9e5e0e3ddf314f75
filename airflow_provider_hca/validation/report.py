"""Findings of a validation, and their report for log, XCom, page and command line."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from airflow_provider_hca.exceptions import InvalidMetadataError

Check = Literal["empty", "json", "described-by", "schema-version", "schema", "required", "links", "data-file"]
Level = Literal["error", "warning"]

MAX_XCOM_BYTES = 40 * 1024
_MAX_FINDINGS = 10_000
_MAX_PATH = 200  # characters
_MAX_REASON = 500
_MAX_GROUPS = 100  # in text; JSON has all
_MAX_FILES = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Reason why a directory is not valid metadata.

    :ivar file: name of the file
    :ivar path: JSON path in the file, such as `$.file_core.file_name`; empty for the file as a whole
    :ivar reason: reason, and a remedy
    :ivar check: check that failed
    :ivar level: `error`, or `warning`, which does not stop an upload
    """

    file: str
    path: str
    reason: str
    check: Check
    level: Level = "error"


@dataclass(slots=True)
class ValidationReport:
    """Result of a validation.

    :ivar directory: validated directory or prefix
    :ivar documents_valid: number of documents that are valid against their schema
    :ivar documents_invalid: number of documents that are not, or that cannot be read
    :ivar documents_unchecked: number of documents whose missing schema is only a warning
    :ivar findings: the first 10,000 findings
    :ivar findings_omitted: number of further findings
    :ivar error_count: number of findings of level `error`, omitted ones included
    """

    directory: str
    documents_valid: int = 0
    documents_invalid: int = 0
    documents_unchecked: int = 0
    findings: list[Finding] = field(default_factory=list)
    findings_omitted: int = 0
    error_count: int = 0

    def raise_errors(self) -> None:
        """Raise if there are errors.

        :raises InvalidMetadataError: with all findings of level `error`
        """
        if self.error_count:
            errors = [(found.file, found.path, found.reason) for found in self.findings if found.level == "error"]
            raise InvalidMetadataError(self.directory, errors, str(self))

    def add(self, file: str, path: str, reason: str, check: Check, level: Level = "error") -> None:
        """Add a finding; long texts are shortened."""
        self.error_count += level == "error"
        if len(self.findings) < _MAX_FINDINGS:
            self.findings.append(Finding(file, _shorten(path, _MAX_PATH), _shorten(reason, _MAX_REASON), check, level))
        else:
            self.findings_omitted += 1

    def as_json(self, max_bytes: int | None = None) -> dict[str, Any]:
        """Return the report for programs: counts and findings.

        :param max_bytes: maximum size of the findings as JSON, in bytes; unlimited if None
        """
        findings, size = [], 0
        for finding in self.findings:
            values = asdict(finding)
            size += len(json.dumps(values)) + 2
            if max_bytes is not None and size > max_bytes:
                break
            findings.append(values)
        return {
            "documents_valid": self.documents_valid,
            "documents_invalid": self.documents_invalid,
            "documents_unchecked": self.documents_unchecked,
            "findings": findings,
            "findings_omitted": self.findings_omitted + len(self.findings) - len(findings),
        }

    def __str__(self) -> str:
        warnings = len(self.findings) + self.findings_omitted - self.error_count
        unchecked = f", {self.documents_unchecked:,} unchecked" if self.documents_unchecked else ""
        lines = [
            f"{self.directory}: documents: {self.documents_valid:,} valid, {self.documents_invalid:,} invalid"
            f"{unchecked}; findings: {_count(self.error_count, 'error')}, {_count(warnings, 'warning')}"
        ]
        groups = group_findings(self.findings)
        for finding, files in groups[:_MAX_GROUPS]:
            names = ", ".join(files[:_MAX_FILES])
            more = f" and {len(files) - _MAX_FILES:,} more" if len(files) > _MAX_FILES else ""
            lines.append(f"  {finding.level} ({finding.check}): {located(finding)}: {names}{more}")
        if len(groups) > _MAX_GROUPS:
            lines.append(f"  ... and {len(groups) - _MAX_GROUPS:,} more reasons")
        return "\n".join(lines)


def group_findings(findings: Iterable[Finding]) -> list[tuple[Finding, list[str]]]:
    """Return findings by reason: errors first, then by number of files.

    :param findings: findings of a report
    :return: pairs of the first finding with a reason, and the names of all files that have it
    """
    groups: defaultdict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.level, finding.check, finding.path, finding.reason].append(finding)
    grouped = [(alike[0], [finding.file for finding in alike]) for alike in groups.values()]
    return sorted(grouped, key=lambda group: (group[0].level, -len(group[1])))


def located(finding: Finding) -> str:
    """Return the reason of a finding with its JSON path."""
    return f"{finding.path}: {finding.reason}" if finding.path else finding.reason


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
