"""JSON Schemas in a directory or bucket, by the paths of their public URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

from airflow_provider_hca.client.identifiers import derive_uuid, make_version
from airflow_provider_hca.exceptions import InvalidDirectoryError
from airflow_provider_hca.upload.access import GCSAccess, S3Access
from airflow_provider_hca.upload.options import UploadOptions
from airflow_provider_hca.upload.plan import Plan, plan_directory
from airflow_provider_hca.validation.reading import MAX_BYTES, parse_json, read_file

if TYPE_CHECKING:
    from referencing import Registry, Resource

_MAX_URL = 500  # characters
# No segment begins with a dot. A name is only looked up among those that the directory has.
_URL = re.compile(
    r"https?://(?i:schema\.(?:[a-z0-9-]+\.)*humancellatlas\.org)"
    r"/((?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*)"
)


class SchemaError(Exception):
    """A schema is not in the directory, or cannot be used.

    :param message: problem, and a remedy
    :param missing: whether the directory does not have it
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


def open_schemas(location: str | Path, access: S3Access | GCSAccess | None = None) -> SchemaStore:
    """Return the schemas of a directory or of a prefix of a bucket.

    :param location: path, `s3://bucket/prefix` or `gs://bucket/prefix`, with files such as
        `type/biomaterial/8.6.1/cell_suspension.json`
    :param access: credentials and endpoint of the bucket; the cloud SDK's own if None
    :raises ValueError: if there are no schemas, or the extra `validate` is not installed
    :raises StagingError: if the bucket cannot be listed
    """
    try:
        import jsonschema  # noqa: F401 - a clear error before anything is read
    except ImportError:
        raise ValueError("the library jsonschema is missing: pip install 'airflow-provider-hca[validate]'") from None
    options = UploadOptions(include=["*.json"], symlinks="follow")
    uuid, version = derive_uuid(str(location)), make_version()  # every plan has them
    try:
        plan = plan_directory(location, options, bundle_uuid=uuid, bundle_version=version, access=access)
    except InvalidDirectoryError as error:
        problems = "; ".join(f"{name}: {problem}" if name else problem for name, problem in error.offenders[:5])
        raise ValueError(
            "schemas must be a directory, s3:// or gs:// prefix with files such as "
            f"type/project/9.0.2/project.json, got {str(location)!r}: {problems}"
        ) from None
    return SchemaStore(plan)


class SchemaStore:
    """JSON Schemas of a directory or prefix; one store serves any number of bundles.

    Each schema is read and compiled once, together with all that it refers to. Nothing is fetched by HTTP.

    :param plan: plan of the directory
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._files = {file.name: file for file in plan.files}
        self._contents: dict[str, Any] = {}
        self._validators: dict[str, Any] = {}

    def validator(self, url: str) -> Any:
        """Return the compiled `jsonschema.Draft7Validator` of a schema.

        :param url: URL of the schema, as in `describedBy`
        :raises ValueError: if it is not the URL of a schema of the Human Cell Atlas
        :raises SchemaError: if the directory does not have it, or it is invalid
        """
        name = schema_name(url)
        if name not in self._validators:
            try:
                self._validators[name] = self._compile(url, name)
            except SchemaError as error:
                self._validators[name] = error
        validator = self._validators[name]
        if isinstance(validator, SchemaError):
            raise SchemaError(str(validator), missing=validator.missing)
        return validator

    def _compile(self, url: str, name: str) -> Any:
        from jsonschema import Draft7Validator

        schema = self._content(name)
        return Draft7Validator(schema, registry=self._registry(url, schema))

    def _registry(self, url: str, schema: Any) -> Registry[Any]:
        """Return a registry of all schemas that a schema refers to, directly or not.

        Otherwise jsonschema retrieves each `$ref` again for each document, which takes twice the time. A missing one
        is a finding in the documents that need it.
        """
        from referencing import Registry

        resources: dict[str, Resource[Any]] = {}
        pending = list(_references(schema, url))
        while pending:
            reference = pending.pop()
            if reference in resources:
                continue
            try:
                resources[reference] = resource = self._retrieve(reference)
            except ValueError:
                continue
            except SchemaError as error:
                if not error.missing:
                    raise
                continue
            pending += _references(resource.contents, reference)
        registry: Registry[Any] = Registry(retrieve=self._retrieve)  # type: ignore[call-arg]  # attrs renames it
        return registry.with_resources(resources.items()).crawl()

    def _retrieve(self, url: str) -> Resource[Any]:
        from referencing.jsonschema import DRAFT7

        return DRAFT7.create_resource(self._content(schema_name(url)))

    def _content(self, name: str) -> Any:
        if name not in self._contents:
            self._contents[name] = self._load(name)
        return self._contents[name]

    def _load(self, name: str) -> Any:
        from jsonschema import Draft7Validator
        from jsonschema.exceptions import SchemaError as InvalidSchemaError

        file = self._files.get(name)
        if file is None:
            raise SchemaError(f"the schemas do not have {name}: add this version, or correct describedBy", missing=True)
        if file.size > MAX_BYTES:
            raise SchemaError(f"the schema {name} has {file.size:,} bytes; at most 8 MiB are read")
        try:
            schema = parse_json(read_file(self._plan, file))
        except ValueError as error:
            raise SchemaError(f"the schema {name} {error}") from None
        try:
            Draft7Validator.check_schema(schema)
        except InvalidSchemaError as error:
            raise SchemaError(f"the schema {name} is invalid: {error.json_path}: {error.message}") from None
        return schema


def schema_name(url: str) -> str:
    """Return the name of the file that has a schema.

    :param url: URL of the schema
    :raises ValueError: if it is not the URL of a schema of the Human Cell Atlas
    """
    match = _URL.fullmatch(url) if len(url) <= _MAX_URL else None
    if match is None:
        raise ValueError(
            "must be a URL such as https://schema.humancellatlas.org/type/project/9.0.2/project, "
            f"with a host schema.*humancellatlas.org, got {url!r:.150}"
        )
    return f"{match[1].removesuffix('.json')}.json"


def _references(schema: Any, base: str) -> Iterator[str]:
    """Yield the URLs of other schemas that a schema refers to."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            yield urldefrag(urljoin(base, reference)).url
        for value in schema.values():
            yield from _references(value, base)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value, base)
