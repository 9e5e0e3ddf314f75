"""Validate the HCA metadata of a planned directory: all problems in one report, before anything is sent."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Any, Literal, get_args

from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.options import check_choice
from airflow_provider_hca.upload.plan import Plan
from airflow_provider_hca.validation.documents import (
    LINKS,
    PROJECT,
    data_file,
    document_id,
    is_document,
    linked_ids,
)
from airflow_provider_hca.validation.reading import MAX_BYTES, parse_json, read_files
from airflow_provider_hca.validation.report import Check, Level, ValidationReport
from airflow_provider_hca.validation.schemas import SchemaError, SchemaStore

MissingSchemas = Literal["error", "warning"]

_MAX_SCHEMA_FINDINGS = 50  # of one document


def validate(
    plan: Plan,
    schemas: SchemaStore,
    *,
    missing_schemas: MissingSchemas = "error",
    stop: threading.Event | None = None,
) -> ValidationReport:
    """Return the findings in the metadata of a planned directory or prefix.

    Metadata documents are the `.json` files that the DSS indexes (`indexed`), except data: files that a `file_core`
    names, and files that neither have `describedBy` nor look like a document otherwise.

    :param plan: plan of all files of the directory
    :param schemas: schemas, from `open_schemas`; one store serves any number of plans
    :param missing_schemas: level of the finding for a schema version that `schemas` does not have
    :param stop: event that stops the validation
    :raises ValueError: if an argument is invalid
    :raises InvalidDirectoryError: if a file changed after it was planned, or cannot be read; not permanent
    :raises StagingError: if a bucket cannot be read
    :raises DSSAbortedError: after `stop`
    """
    check_choice("missing_schemas", missing_schemas, get_args(MissingSchemas))
    bundle = _Bundle(plan, schemas, missing_schemas)
    bundle.check_files()
    documents = [file for file in plan.files if file.indexed and file.name.lower().endswith(".json") and file.size]
    for file in documents:
        if file.size > MAX_BYTES:
            size = f"has {file.size:,} bytes; a metadata document has at most 8 MiB: leave data out of indexed"
            bundle.unreadable(file, size)
    for file, content in read_files(plan, (file for file in documents if file.size <= MAX_BYTES), stop):
        try:
            document = parse_json(content)
        except ValueError as error:
            bundle.unreadable(file, str(error))
        else:
            bundle.check_document(file, document)
    bundle.check_references()
    return bundle.report


class _Bundle:
    """Findings of a bundle, and the ids and names that its documents have and refer to."""

    def __init__(self, plan: Plan, schemas: SchemaStore, missing_schemas: Level) -> None:
        self.report = ValidationReport(plan.files[0].directory if plan.files else "")
        self._plan, self._schemas, self._missing_schemas = plan, schemas, missing_schemas
        self._ids: set[str] = set()
        self._links: list[tuple[str, str, str]] = []
        self._described: list[tuple[str, str]] = []
        self._maybe_data: list[tuple[str, str, str, Check]] = []

    def check_files(self) -> None:
        """Check that no file is empty, and that the bundle has the required documents."""
        names = {file.name for file in self._plan.files}
        for name in (LINKS, PROJECT):
            if name not in names:
                self.report.add(name, "", "is missing: every bundle has it", "required")
        for file in self._plan.files:
            if not file.size:
                self.report.add(file.name, "", "is empty: write it again, or exclude it", "empty")
                self.report.documents_invalid += file.indexed and is_document(file.name, None)

    def unreadable(self, file: PlannedFile, problem: str) -> None:
        """Add a finding unless the file proves to be data."""
        self._maybe_data.append((file.name, "", problem, "json"))

    def check_document(self, file: PlannedFile, document: Any) -> None:
        """Check a document against its schema, and record the ids and names in it."""
        if not is_document(file.name, document):
            return
        url = document.get("describedBy") if isinstance(document, dict) else None
        if url is None:
            reason = "describedBy is missing: it must be the URL of the document's schema"
            self._maybe_data.append((file.name, "$", reason, "described-by"))
        elif not isinstance(url, str):
            self._invalid(file.name, "$.describedBy", f"must be a URL, got {url!r:.100}", "described-by")
        else:
            self._check_schema(file.name, document, url)
        if (identity := document_id(document)) is not None:
            self._ids.add(identity)
        if (name := data_file(document)) is not None:
            self._described.append((file.name, name))
        if file.name == LINKS:
            self._links += ((file.name, path, identity) for path, identity in linked_ids(document))

    def _check_schema(self, name: str, document: Any, url: str) -> None:
        from referencing.exceptions import Unresolvable

        try:
            validator = self._schemas.validator(url)
        except ValueError as error:
            self._invalid(name, "$.describedBy", str(error), "described-by")
            return
        except SchemaError as error:
            self._without_schema(name, str(error), missing=error.missing)
            return
        count, missing = 0, ""
        try:
            # Not collected: the message of an error quotes the value, which may be almost the whole document.
            for found in islice(validator.iter_errors(document), _MAX_SCHEMA_FINDINGS):
                count += 1
                self.report.add(name, found.json_path, found.message, "schema")
        except Unresolvable as error:
            missing = f"its schema refers to {error.ref}, which the schemas do not have: add it"
        except (RecursionError, ArithmeticError) as error:
            count += 1
            self.report.add(name, "$", f"cannot be validated: {type(error).__name__}", "schema")
        if count == _MAX_SCHEMA_FINDINGS:
            self.report.add(name, "$", f"only the first {count} findings of this file are listed", "schema")
        if missing and count:
            self.report.add(name, "$.describedBy", missing, "schema-version", self._missing_schemas)
        elif missing:
            self._without_schema(name, missing, missing=True)
        self.report.documents_invalid += count > 0
        self.report.documents_valid += not count and not missing

    def _without_schema(self, name: str, reason: str, *, missing: bool) -> None:
        level = self._missing_schemas if missing else "error"
        self.report.add(name, "$.describedBy", reason, "schema-version", level)
        self.report.documents_invalid += level == "error"
        self.report.documents_unchecked += level != "error"

    def _invalid(self, name: str, path: str, reason: str, check: Check) -> None:
        self.report.add(name, path, reason, check)
        self.report.documents_invalid += 1

    def check_references(self) -> None:
        """Check what documents refer to, after all of them have been read."""
        described = {name for _, name in self._described}
        for name, path, reason, check in self._maybe_data:
            if name not in described:
                self._invalid(name, path, reason, check)
        for name, path, identity in self._links:
            if identity.lower() not in self._ids:
                self.report.add(name, path, f"no document has the id {identity!r}", "links")
        names = {file.name for file in self._plan.files}
        elsewhere = {name.rpartition("/")[2]: name for name in names}
        for name, data in self._described:
            if data not in names:
                other = elsewhere.get(data)
                hint = f"; its name in the bundle is {other!r}" if other else ""
                self.report.add(name, "$.file_core.file_name", f"the bundle has no file {data!r}{hint}", "data-file")
