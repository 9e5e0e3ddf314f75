"""Operators for the Data Storage System (DSS): put a file, put a bundle, upload a directory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.hooks.failures import retries_only_if_useful
from airflow_provider_hca.operators.identity import run_version, task_uuid

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.upload.plan import Hidden, Symlinks
    from airflow_provider_hca.upload.report import UploadReport


class DSSOperator(BaseOperator):
    """What the DSS operators have in common: a connection, a creator, an end when killed, errors that end retries.

    An error that would come again (a wrong argument, a refused token, a conflict) is raised as an
    `AirflowFailException`, which spends no retry; any other as the `DSSError` that it is.

    :param dss_conn_id: the Airflow connection (templated)
    :param creator_uid: who creates; the connection's `creator_uid` if None (templated)
    """

    template_fields: Sequence[str] = ("dss_conn_id", "creator_uid")
    ui_color = "#dcecf7"

    _stop: threading.Event | None = None

    def __init__(
        self, *, dss_conn_id: str = DSSHook.default_conn_name, creator_uid: int | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dss_conn_id = dss_conn_id
        self.creator_uid = creator_uid

    def on_kill(self) -> None:
        """Tell the work to stop: nothing more is begun; a request under way is the last."""
        if self._stop is not None:
            self._stop.set()

    @contextmanager
    def _running(self, *, pool_size: int = 2) -> Iterator[tuple[DSSHook, int]]:
        """Give the hook and the creator's uid to the work inside, and sort its errors."""
        self._stop = threading.Event()
        try:
            with retries_only_if_useful(), DSSHook(self.dss_conn_id, pool_size=pool_size, stop=self._stop) as hook:
                yield hook, hook.creator_uid if self.creator_uid is None else _integer("creator_uid", self.creator_uid)
        finally:
            self._stop = None  # an operator is copied and pickled, an event cannot be


class DSSPutFileOperator(DSSOperator):
    """Register one staged object as a file (`PUT /files/{uuid}`), and wait until the DSS has it.

    Returns the file as `DSSPutBundleOperator(files=...)` takes it: `uuid`, `version`, `name`, `indexed`. Mapped, its
    output is all the files of a bundle.

    :param source_url: `s3://bucket/key` or `gs://bucket/key` of an object staged with its four checksums; its scheme
        decides the replica (templated)
    :param name: of the file in a bundle; the last part of the key if None (templated)
    :param indexed: whether the DSS is to index its content; if None, whether the name ends in `.json` (templated)
    :param file_uuid: of the file; if None it derives from DAG run, task, map index and name (templated)
    :param file_version: of the file, a DSS_VERSION; if None it derives from the DAG run (templated)
    :param sha256: of the content; if None it is read from the staged object when it is needed, which takes credentials
        for the bucket on the worker. It is needed above 64 MiB, to know that the file stored is this one (templated)
    :param copy_timeout: how long to wait for an asynchronous copy, in seconds
    :param creator_uid: who creates it; the connection's `creator_uid` if None (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "source_url",
        "name",
        "indexed",
        "file_uuid",
        "file_version",
        "sha256",
        *DSSOperator.template_fields,
    )

    def __init__(
        self,
        *,
        source_url: str,
        name: str | None = None,
        indexed: bool | str | None = None,
        file_uuid: str | None = None,
        file_version: str | None = None,
        sha256: str | None = None,
        copy_timeout: float | timedelta = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_url = source_url
        self.name = name
        self.indexed = indexed
        self.file_uuid = file_uuid
        self.file_version = file_version
        self.sha256 = sha256
        self.copy_timeout = copy_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Register the object; return the file."""
        from airflow_provider_hca.client.model import bundle_file, replica_of
        from airflow_provider_hca.upload.staging import staged_sha256

        with self._running() as (hook, creator_uid):
            replica = replica_of(self.source_url)
            name = self.name or self.source_url.rsplit("/", 1)[-1]
            file = bundle_file(
                {
                    "uuid": self.file_uuid or task_uuid(context, name),
                    "version": self.file_version or run_version(context),
                    "name": name,
                    "indexed": fnmatchcase(name, "*.json") if self.indexed is None else _boolean(self.indexed),
                }
            )
            answer = hook.put_file(file["uuid"], file["version"], source_url=self.source_url, creator_uid=creator_uid)
            self.log.info("file %s.%s (%s): %s", file["uuid"], file["version"], name, answer.outcome)
            if answer.outcome == "copying":
                hook.wait_for_file(
                    file["uuid"],
                    file["version"],
                    replica=replica,
                    sha256=self.sha256 or staged_sha256(self.source_url),
                    seconds=_seconds("copy_timeout", self.copy_timeout),
                )
            return dict(file)


class DSSPutBundleOperator(DSSOperator):
    """Make a bundle of registered files (`PUT /bundles/{uuid}`).

    Returns, also as an XCom each, so that `task.output["uuid"]` is the bundle's uuid: `uuid`, `version`, `fqid`,
    `replica`, `file_count` and `created` (whether this try made it).

    :param files: the members in a stable order, each with `uuid`, `version`, `name` and `indexed`: what mapped
        `DSSPutFileOperator`s return (templated)
    :param replica: `aws` or `gcp`: where the files are (templated)
    :param bundle_uuid: of the bundle; if None it derives from DAG run, task and map index (templated)
    :param bundle_version: of the bundle, a DSS_VERSION; if None it derives from the DAG run (templated)
    :param creator_uid: who creates it; the connection's `creator_uid` if None (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "files",
        "replica",
        "bundle_uuid",
        "bundle_version",
        *DSSOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"files": "json"}

    def __init__(
        self,
        *,
        files: Iterable[Mapping[str, Any]] | XComArg,
        replica: str = "aws",
        bundle_uuid: str | None = None,
        bundle_version: str | None = None,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.files = files
        self.replica = replica
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the bundle; return what it is called."""
        with self._running() as (hook, creator_uid):
            files = _members(self.files)
            result = hook.put_bundle(
                self.bundle_uuid or task_uuid(context),
                self.bundle_version or run_version(context),
                replica=self.replica,
                files=files,
                creator_uid=creator_uid,
            )
            self.log.info("bundle %s.%s of %d files: %s", result.uuid, result.version, len(files), result.outcome)
            return {
                "uuid": result.uuid,
                "version": result.version,
                "fqid": f"{result.uuid}.{result.version}",
                "replica": self.replica,
                "file_count": len(files),
                "created": result.outcome == "created",
            }


class DSSUploadDirectoryOperator(DSSOperator):
    """Upload a directory as a bundle: stage its files with their checksums, register them, put the bundle.

    A retry finds what the try before registered and goes on from there; however often a task is tried, it makes one
    bundle version, and each file once. A cleared DAG run makes a new version of the same bundle.

    Returns, also as an XCom each, so that `task.output["uuid"]` is the bundle's uuid: `uuid`, `version`, `fqid`,
    `replica`, `file_count`, `byte_count`, `created` (whether this try made the bundle), and what this try did:
    `staged_file_count`, `staged_byte_count`, `registered_file_count`, `copied_file_count`.

    Patterns are shell globs, matched with the path relative to the directory; `*` matches `/` too.

    :param directory: on the worker; the files in it and below it become the bundle (templated)
    :param staging_bucket: bucket to stage in, of S3 for `aws`, of Google Cloud Storage for `gcp`; the worker's own
        cloud credentials are used (templated)
    :param replica: `aws` or `gcp` (templated)
    :param staging_prefix: of the staged objects' keys (templated)
    :param bundle_uuid: of the bundle; if None it derives from DAG run, task and map index (templated)
    :param bundle_version: of the bundle and its files, a DSS_VERSION; if None it derives from the run (templated)
    :param include: patterns of the files to take (templated)
    :param exclude: patterns of the files to leave out of those (templated)
    :param hidden: `skip` leaves out files and directories whose names begin with a dot, `include` takes them
    :param symlinks: whether a symbolic link is an `error`, to `follow`, or to `skip`
    :param indexed: patterns of the files that the DSS is to index (templated)
    :param content_types: content types by pattern, as in `{"*.gz": "application/gzip; dcp-type=data"}`; others are
        guessed from the name (templated)
    :param max_workers: files under way at once; each takes up to 8 MiB of memory
    :param copy_timeout: how long to wait for the DSS's asynchronous copies (files above 64 MiB), in seconds
    :param creator_uid: who creates all of it; the connection's `creator_uid` if None (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "directory",
        "staging_bucket",
        "replica",
        "staging_prefix",
        "bundle_uuid",
        "bundle_version",
        "include",
        "exclude",
        "indexed",
        "content_types",
        *DSSOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"content_types": "json"}

    def __init__(
        self,
        *,
        directory: str,
        staging_bucket: str,
        replica: str = "aws",
        staging_prefix: str = "",
        bundle_uuid: str | None = None,
        bundle_version: str | None = None,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        hidden: Hidden = "skip",
        symlinks: Symlinks = "error",
        indexed: Sequence[str] = ("*.json",),
        content_types: Mapping[str, str] | None = None,
        max_workers: int = 8,
        copy_timeout: float | timedelta = 3600,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.directory = directory
        self.staging_bucket = staging_bucket
        self.replica = replica
        self.staging_prefix = staging_prefix
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.include = include
        self.exclude = exclude
        self.hidden = hidden
        self.symlinks = symlinks
        self.indexed = indexed
        self.content_types = content_types
        self.max_workers = max_workers
        self.copy_timeout = copy_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the directory; return what the bundle is called and what was done."""
        from airflow_provider_hca.client.model import check_replica
        from airflow_provider_hca.upload.engine import Uploader
        from airflow_provider_hca.upload.plan import plan_directory
        from airflow_provider_hca.upload.staging import open_staging

        with self._running(pool_size=self.max_workers) as (hook, creator_uid):
            plan = plan_directory(
                self.directory,
                bundle_uuid=self.bundle_uuid or task_uuid(context),
                bundle_version=self.bundle_version or run_version(context),
                include=self.include,
                exclude=self.exclude,
                hidden=self.hidden,
                symlinks=self.symlinks,
                indexed=self.indexed,
                content_types=self.content_types,
            )
            uploader = Uploader(
                hook.api,
                hook.get_conn(),
                open_staging(self.replica, self.staging_bucket, workers=self.max_workers),
                replica=check_replica(self.replica),
                creator_uid=creator_uid,
                staging_prefix=self.staging_prefix,
                workers=self.max_workers,
                copy_seconds=_seconds("copy_timeout", self.copy_timeout),
                stop=self._stop,
            )
            return _as_xcom(uploader.upload(plan, resume=context["ti"].try_number > 1))


def _as_xcom(report: UploadReport) -> dict[str, Any]:
    return {
        "uuid": report.uuid,
        "version": report.version,
        "fqid": f"{report.uuid}.{report.version}",
        "replica": report.replica,
        "file_count": report.files,
        "byte_count": report.size,
        "created": report.created,
        "staged_file_count": report.staged_files,
        "staged_byte_count": report.staged_size,
        "registered_file_count": report.registered_files,
        "copied_file_count": report.copied_files,
    }


def _members(given: Any) -> list[Mapping[str, Any]]:
    if given is None or isinstance(given, str | Mapping):
        raise ValueError(f"files must be a list of what DSSPutFileOperator returns, not {given!r}")
    files = list(given)  # what mapped tasks return is fetched from the database one by one
    if not files:
        raise ValueError("files is empty: a bundle needs at least one file")
    odd = next((file for file in files if not isinstance(file, Mapping)), None)
    if odd is not None:
        raise ValueError(f"files must be what DSSPutFileOperator returns, one for each file; {odd!r} is not")
    names = Counter(str(file.get("name")) for file in files)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise ValueError(f"a bundle's files need different names; more than once there are: {', '.join(twice)}")
    return files


def _integer(what: str, value: int | str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a whole number, not {value!r}") from None


def _boolean(value: bool | str) -> bool:
    text = str(value).strip().lower()
    if text not in {"true", "false"}:
        raise ValueError(f"indexed must be true or false, not {value!r}")
    return text == "true"


def _seconds(what: str, value: float | timedelta) -> float:
    try:
        return value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be a number of seconds or a timedelta, not {value!r}") from None
