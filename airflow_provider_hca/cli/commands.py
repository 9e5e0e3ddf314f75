"""Commands of `airflow hca`. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_hca.exceptions import DSSError, DSSResponseError
from airflow_provider_hca.hooks.dss import DSSHook

if TYPE_CHECKING:
    import argparse

    from airflow_provider_hca.upload.access import GCSAccess, S3Access
    from airflow_provider_hca.upload.changes import Changes
    from airflow_provider_hca.upload.options import UploadOptions
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.validation.report import ValidationReport

_INTERRUPTED = 130  # exit code of shells after Ctrl-C


def check(options: argparse.Namespace) -> None:
    """Test a connection and its replicas."""
    with _report_errors("check"), DSSHook(options.conn_id) as hook:
        succeeded, message = hook.test_connection()
        if not succeeded:
            raise DSSError(message)
        print(message)
        for replica in ("aws", "gcp"):
            print(f"replica {replica}: {'answers' if _serves(hook, replica) else 'is not served'}")


def upload(options: argparse.Namespace) -> None:
    """Upload a directory as a bundle and print the FQID of its latest version."""
    from airflow_provider_hca.upload.sources.base import check_source, staged_under
    from airflow_provider_hca.upload.staging import open_staging
    from airflow_provider_hca.upload.uploader import Uploader

    stop = threading.Event()
    with _report_errors("upload"), DSSHook(options.conn_id, stop=stop) as hook:
        staged = staged_under(options.staging_bucket, options.staging_prefix)
        check_source(options.directory, replica=options.replica, staged=staged)
        plan, changes = _compared(options, hook)
        if changes and changes.version is not None and not changes.count:
            print(f"{plan.bundle_uuid}.{changes.version}")
            return
        print(f"bundle {plan.bundle_uuid}.{plan.bundle_version}", file=sys.stderr)
        uploader = Uploader(
            hook.api,
            hook.get_conn().transport,
            open_staging(options.replica, options.staging_bucket, workers=options.max_workers, access=_access(options)),
            _upload_options(options),
            creator_uid=hook.creator_uid if options.creator_uid is None else options.creator_uid,
            stop=stop,
        )
        # Always: a command cannot know whether it was run before.
        report = uploader.upload(plan, resume=True, changes=changes)
        print(f"{report.uuid}.{report.version}")


def plan(options: argparse.Namespace) -> None:
    """Print what an upload of a directory would change."""
    with _report_errors("plan"), DSSHook(options.conn_id) as hook:
        if options.bundle_key is None and options.bundle_uuid is None:
            raise ValueError(
                "give --bundle-key or --bundle-uuid: the plan compares with the latest version of a bundle"
            )
        plan, changes = _compared(options, hook)
        assert changes is not None, "a bundle is given"  # noqa: S101 - for the type checker
        seconds = _expected_seconds(plan, changes, hook, options)
        if options.json:
            print(json.dumps({**changes.as_json(), "seconds": round(seconds, 1)}))
        else:
            print(f"{changes}; at least {seconds:,.1f} s")


def validate(options: argparse.Namespace) -> None:
    """Print the findings in the metadata of a directory; exit with 1 if there are errors."""
    from airflow_provider_hca.client.identifiers import derive_uuid, make_version
    from airflow_provider_hca.upload.plan import plan_directory
    from airflow_provider_hca.utils.credentials import url_access

    with _report_errors("validate"):
        plan = plan_directory(
            options.directory,
            _upload_options(options),
            bundle_uuid=derive_uuid(options.directory),
            bundle_version=make_version(),
            access=url_access(options.directory, aws_conn_id=options.aws_conn_id, gcp_conn_id=options.gcp_conn_id),
        )
        report = _validation(plan, options.schemas, options)
        print(json.dumps(report.as_json()) if options.json else report)
    if report.error_count:
        sys.exit(1)


def get(options: argparse.Namespace) -> None:
    """Download a bundle to a directory and print its FQID."""
    with _report_errors("get"), DSSHook(options.conn_id, pool_size=options.max_workers) as hook:
        from airflow_provider_hca.download.downloader import Downloader

        name, _, version = options.bundle.partition(".")
        downloader = Downloader(
            hook.api, hook.get_conn().transport, replica=options.replica, workers=options.max_workers
        )
        report = downloader.download(
            name,
            options.directory,
            version=version or None,
            data_files=options.data_files or ("*",),
            metadata_files=options.metadata_files or ("*",),
        )
        print(f"{report.uuid}.{report.version}")


def download(options: argparse.Namespace) -> None:
    """Download several bundles and print the report; exit with 1 if some failed."""
    with _report_errors("download"), DSSHook(options.conn_id, pool_size=options.max_workers) as hook:
        from airflow_provider_hca.download.batch import BatchDownloader
        from airflow_provider_hca.download.selection import select

        if sum(given is not None for given in (options.bundle, options.collection, options.manifest)) != 1:
            raise ValueError("give one of --bundle, --collection and --manifest")
        uuid, _, version = (options.collection or "").partition(".")
        transport = hook.get_conn().transport
        selection = select(
            hook.api,
            transport,
            replica=options.replica,
            bundles=options.bundle,
            collection_uuid=uuid or None,
            collection_version=version or None,
            manifest=options.manifest,
        )
        report = BatchDownloader(hook.api, transport, replica=options.replica, workers=options.max_workers).download(
            selection,
            options.directory,
            data_files=options.data_files or ("*",),
            metadata_files=options.metadata_files or ("*",),
        )
        print(json.dumps(report.as_json()) if options.json else report)
    if report.failures:
        sys.exit(1)


def local(options: argparse.Namespace) -> None:
    """Run the local DSS until INT or TERM."""
    from airflow_provider_hca.local.__main__ import serve

    serve(options)


def _serves(hook: DSSHook, replica: str) -> bool:
    try:
        hook.find_bundle(str(uuid.uuid4()), replica=replica)
    except DSSResponseError as error:
        if error.status != 400:
            raise
        return False
    return True


def _access(options: argparse.Namespace) -> S3Access | GCSAccess | None:
    from airflow_provider_hca.utils.credentials import cloud_access

    return cloud_access(options.replica, aws_conn_id=options.aws_conn_id, gcp_conn_id=options.gcp_conn_id)


def _compared(options: argparse.Namespace, hook: DSSHook) -> tuple[Plan, Changes | None]:
    """Plan the directory, and compare it with the latest version of a bundle that is given by key or UUID."""
    from airflow_provider_hca.client.identifiers import bundle_uuid_of, make_version
    from airflow_provider_hca.upload.changes import compare

    if options.bundle_key is not None and options.bundle_uuid is not None:
        raise ValueError("--bundle-key and --bundle-uuid exclude each other: the UUID derives from the key")
    uuid = options.bundle_uuid if options.bundle_key is None else bundle_uuid_of(options.bundle_key)
    plan = _plan(options, uuid)
    if options.validate:
        report = _validation(plan, options.validate, options)
        report.raise_errors()
        print(report, file=sys.stderr)
    if not uuid:
        return plan, None
    plan, changes = compare(plan, hook.api, hook.get_conn().transport, _upload_options(options))
    if changes.version is not None and changes.version >= plan.bundle_version and changes.count:
        if options.bundle_version:
            raise ValueError(
                f"version {plan.bundle_version} would not be the latest: the bundle has {changes.version} already"
            )
        # For example after a file was removed: the others are as old as before.
        plan = plan.at_version(make_version())
    return plan, changes


def _plan(options: argparse.Namespace, uuid: str | None) -> Plan:
    """Plan the directory. UUID and version derive from its path and its newest file, unless they are given."""
    from airflow_provider_hca.client.identifiers import derive_uuid, make_version
    from airflow_provider_hca.upload.plan import plan_directory
    from airflow_provider_hca.upload.sources.base import is_url

    directory = options.directory
    named = (directory,) if is_url(directory) else (socket.gethostname(), str(Path(directory).resolve()))
    plan = plan_directory(
        directory,
        _upload_options(options),
        bundle_uuid=uuid or derive_uuid(*named),
        bundle_version=options.bundle_version or make_version(),
        access=_access(options) if is_url(directory) else None,
    )
    if options.bundle_version:
        return plan
    newest = max(file.mtime_ns for file in plan.files)
    return plan.at_version(make_version(datetime.fromtimestamp(newest // 10**9, UTC), later=newest % 10**9 // 1000))


def _validation(plan: Plan, schemas: str, options: argparse.Namespace) -> ValidationReport:
    from airflow_provider_hca.utils.metadata import open_schemas
    from airflow_provider_hca.validation.validator import validate

    store = open_schemas(schemas, aws_conn_id=options.aws_conn_id, gcp_conn_id=options.gcp_conn_id)
    return validate(plan, store, missing_schemas=options.missing_schemas)


def _expected_seconds(plan: Plan, changes: Changes, hook: DSSHook, options: argparse.Namespace) -> float:
    """Return the least time that the uploads of a plan take, by the limits of rates and by the latency of the DSS."""
    started = time.monotonic()
    hook.find_bundle(plan.bundle_uuid, replica=options.replica)
    latency = time.monotonic() - started
    limits: tuple[float, ...] = (
        -(-changes.requests // options.max_workers) * latency,
        changes.requests / (options.max_requests_per_second or math.inf),
        changes.byte_count / (options.max_bytes_per_second or math.inf),
    )
    return max(limits)


def _upload_options(options: argparse.Namespace) -> UploadOptions:
    from airflow_provider_hca.upload.options import UploadOptions

    given = {field.name: getattr(options, field.name, None) for field in fields(UploadOptions)}
    given["content_types"] = dict(_content_type(text) for text in getattr(options, "content_type", None) or ())
    return UploadOptions(**{name: value for name, value in given.items() if value is not None})


def _content_type(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.partition("=")
    if not equals:
        raise ValueError(f"--content-type must be PATTERN=TYPE, got {text!r}")
    return pattern, kind


@contextmanager
def _report_errors(command: str) -> Iterator[None]:
    """Log to stderr, read connections as Airflow's own commands do, and print errors without tracebacks."""
    # Otherwise Airflow 3 reads connections from the environment only, as in a task's process.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    _log_to_stderr()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_print_error(command, "stopped; run it again to resume", _INTERRUPTED))
    except (DSSError, ValueError, OSError) as error:
        sys.exit(_print_error(command, str(error), 1))


def _print_error(command: str, message: str, code: int) -> int:
    print(f"airflow hca {command}: {message}", file=sys.stderr)
    return code


def _log_to_stderr() -> None:
    # Airflow's own handlers write to stdout, which is for results only.
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING, force=True)
    logging.getLogger("airflow_provider_hca").setLevel(logging.INFO)
