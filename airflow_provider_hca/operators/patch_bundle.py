"""Operator that changes a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import identity
from airflow_provider_hca.operators.staging import DSSStagingOperator
from airflow_provider_hca.utils.identity import run_version
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin, file_inputs
from airflow_provider_hca.utils.progress import ProgressReporter
from airflow_provider_hca.utils.validation import mappings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.client.models import Bundle
    from airflow_provider_hca.hooks.dss import DSSHook
    from airflow_provider_hca.upload.plan import Plan
    from airflow_provider_hca.upload.report import UploadReport


_MAX_NAMES = 5  # in a message


class DSSPatchBundleOperator(OpenLineageMixin, DSSStagingOperator):
    """Add files to a bundle and remove files from it, as a new version (`PATCH /bundles/{uuid}`).

    More than 1,000 additions or removals take several PATCH requests, each of the version that the previous one
    created. A retry looks up how far the previous try got and sends the rest. After an unclear response the operator
    looks up the bundle before it repeats a PATCH, so no change is made twice. The version that a PATCH created is read,
    and corrected if it lacks files, since a failed PATCH leaves false files in caches of the DSS. If nothing has to
    change, no version is created, except if the DSS cannot confirm that.

    `add_directory` adds the files of a directory, under their paths relative to it. They are staged and registered as
    `DSSUploadDirectoryOperator` does it, then the bundle is changed. A file of the bundle with the same name is
    replaced if its content, content type or `indexed` differs, and kept otherwise. UUIDs derive from the UUID of the
    bundle and the name, versions from the DAG run: a retry registers no file twice.

    Returns, also as separate XComs: `uuid`, `version` (the one with all changes), `fqid`, `replica`, `file_count` (of
    that version), `created` (whether this try created the version) and `statistics`: `patch_count` (PATCH requests of
    this try), and with `add_directory` those of `DSSUploadDirectoryOperator` for the files of the directory.

    :param bundle_uuid: UUID of the bundle. (templated)
    :param bundle_version: Version to change, a DSS_VERSION; the latest if None. (templated)
    :param replica: Replica to change, `aws` or `gcp`. (templated)
    :param add_files: Files to add, any number, each with `uuid`, `version`, `name` and `indexed`, for example the
        output of mapped `DSSPutFileOperator` tasks. To replace a file of the same name, put that one in `remove_files`.
        (templated)
    :param remove_files: Files to remove, any number, each with `uuid`, `version`, `name` and `indexed`. (templated)
    :param add_directory: Directory on the worker, or `s3://bucket/prefix` or `gs://bucket/prefix` in the cloud of the
        replica, whose files are added; none if None. (templated)
    :param staging_bucket: Bucket to stage the files of the directory in, of S3 for `aws`, of Google Cloud Storage for
        `gcp`; required with `add_directory`. (templated)
    :param staging_prefix: Prefix of the keys of staged objects. (templated)
    :param include: Patterns of the files of the directory to add. (templated)
    :param exclude: Patterns of files to exclude from those. (templated)
    :param indexed: Patterns of the files of the directory that the DSS indexes. (templated)
    :param content_types: Content types of files of the directory by pattern; guessed from the name otherwise.
        (templated)
    :param copy_timeout: Time to wait for the asynchronous copies of the DSS (files above 64 MiB), in seconds or as a
        `timedelta`
    :param deferrable: Whether to wait for the copies in the triggerer; `[operators] default_deferrable` by default
    :param poll_interval: Time between two polls in the triggerer, in seconds or as a `timedelta`
    :param creator_uid: Creator of the files of the directory; `creator_uid` of the connection if None. (templated)
    :param aws_conn_id: Airflow connection of type `aws` for S3; boto3's own credentials and endpoint if None.
        (templated)
    :param gcp_conn_id: Airflow connection of type `google_cloud_platform` for Google Cloud Storage; Google's own
        credentials if None. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "bundle_version",
        "replica",
        "add_files",
        "remove_files",
        "add_directory",
        "staging_bucket",
        "staging_prefix",
        "include",
        "exclude",
        "indexed",
        "content_types",
        "creator_uid",
        "aws_conn_id",
        "gcp_conn_id",
        *DSSStagingOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "add_files": "json",
        "remove_files": "json",
        "content_types": "json",
    }
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        bundle_uuid: str,
        bundle_version: str | None = None,
        replica: str = "aws",
        add_files: Iterable[Mapping[str, Any]] | XComArg = (),
        remove_files: Iterable[Mapping[str, Any]] | XComArg = (),
        add_directory: str | None = None,
        staging_bucket: str | None = None,
        staging_prefix: str | None = None,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        indexed: Sequence[str] = ("*.json",),
        content_types: Mapping[str, str] | None = None,
        copy_timeout: float | timedelta = 3600,
        creator_uid: int | str | None = None,
        aws_conn_id: str | None = None,
        gcp_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.replica = replica
        self.add_files = add_files
        self.remove_files = remove_files
        self.add_directory = add_directory
        self.staging_bucket = staging_bucket
        self.staging_prefix = staging_prefix
        self.include = include
        self.exclude = exclude
        self.indexed = indexed
        self.content_types = content_types
        self.copy_timeout = copy_timeout
        self.creator_uid = creator_uid
        self.aws_conn_id = aws_conn_id
        self.gcp_conn_id = gcp_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the bundle."""
        from airflow_provider_hca.upload.changes import compare

        with self._open_hook() as hook:
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            if self.add_directory is None:
                return self._patch(context, hook)
            progress = ProgressReporter(context)
            with progress.reporting():
                plan = self._plan(self.add_directory, run_version(context))
                self._check_files(plan)
                progress.planned(plan)
                uploader = self._uploader(hook, progress)
                bundle = self._bundle(hook, plan)
                plan, changes = compare(plan, hook.api, hook.get_conn().transport, self._options(), bundle=bundle)
                _check_versions(plan, bundle)
                plan, report = uploader.register(plan, resume=context["ti"].try_number > 1, changes=changes)
                self._await_copies(uploader, plan, report, progress)
                return self._patch(context, hook, plan, report, progress)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Change the bundle after the wait in the triggerer.

        The directory is planned again, so it has to exist, but its files are not read again.
        """
        from airflow_provider_hca.upload.changes import restore_kept
        from airflow_provider_hca.upload.uploader import Uploader

        progress = ProgressReporter(context)
        with self._open_hook() as hook, progress.reporting("copy"):
            report = self._registered(event)
            # Under the same version: clearing another task of the run meanwhile gives the run another one.
            plan = self._plan(str(self.add_directory), report.version)
            progress.planned(plan)
            get_base = self._base(hook, self.bundle_uuid, report.base)
            plan = restore_kept(plan, report.base, report.kept, get_base)
            Uploader.check_plan(plan, report)
            return self._patch(context, hook, plan, report, progress)

    def _patch(
        self,
        context: Context,
        hook: DSSHook,
        plan: Plan | None = None,
        report: UploadReport | None = None,
        progress: ProgressReporter | None = None,
    ) -> dict[str, Any]:
        added = mappings("add_files", self.add_files)
        # Not hook.change_bundle(), which reports the bundle to hook-level lineage: the operator reports it.
        change = hook.get_conn().change_bundle(
            self.bundle_uuid,
            version=self.bundle_version,
            replica=self.replica,
            add_files=added,
            remove_files=mappings("remove_files", self.remove_files),
            replace_files=[file.as_member() for file in plan.files] if plan else (),
        )
        show_bundle(context, hook, replica=self.replica, uuid=change.uuid, version=change.version)
        self.log.info("bundle %s.%s after %d PATCH requests", change.uuid, change.version, change.patches)
        result = {
            **identity(change.uuid, change.version, self.replica),
            "file_count": change.count,
            "created": change.patches > 0,
            "statistics": {"patch_count": change.patches},
        }
        inputs = file_inputs(hook.api.url, self.replica, added)
        if report is not None and progress is not None:
            progress.done(report)
            result["statistics"].update(report.statistics())
            inputs.append(Data.source(str(self.add_directory), files=report.file_count, size=report.byte_count))
        if self.bundle_version and self.bundle_version != change.version:
            inputs.append(Data.bundle(hook.api.url, identity(change.uuid, self.bundle_version, self.replica)))
        self._report_bundle(context, hook.api.url, result, inputs)
        return result

    def _plan(self, directory: str, version: str) -> Plan:
        """Plan the files of the directory; the version is that of the files to register."""
        if not self.staging_bucket:
            raise ValueError("staging_bucket is required with add_directory")
        return self._plan_files(directory, self.bundle_uuid, version)

    def _check_files(self, plan: Plan) -> None:
        """Check that no name is added twice."""
        from airflow_provider_hca.client.models import bundle_file

        added = {bundle_file(file)["name"] for file in mappings("add_files", self.add_files)}
        names = sorted(added.intersection(file.name for file in plan.files))
        if names:
            raise ValueError(
                f"names of files must be unique in a bundle, {self.add_directory} and add_files both have: "
                f"{', '.join(map(repr, names))}"
            )

    def _bundle(self, hook: DSSHook, plan: Plan) -> Bundle:
        """Return the manifest of the version to change, with only those files that the directory has too.

        :raises ValueError: if `add_files` cannot be added; nothing was staged
        """
        bundle = hook.get_conn().run(
            hook.api.bundle_to_change(
                plan.bundle_uuid,
                version=self.bundle_version,
                replica=self.replica,
                add_files=mappings("add_files", self.add_files),
                remove_files=mappings("remove_files", self.remove_files),
            )
        )
        names = {file.name for file in plan.files}
        return {**bundle, "files": [file for file in bundle["files"] if file.get("name") in names]}


def _check_versions(plan: Plan, bundle: Bundle) -> None:
    """Check that no file has other content under the UUID and version that the bundle has already."""
    stored = {file["name"]: (file["uuid"], file["version"]) for file in bundle["files"]}
    names = [
        file.name for file in plan.files if not file.registered and stored.get(file.name) == (file.uuid, file.version)
    ]
    if names:
        raise ValueError(
            f"this DAG run has registered files of bundle {plan.bundle_uuid} with other content, in version "
            f"{plan.bundle_version}: {', '.join(map(repr, names[:_MAX_NAMES]))}. Replace them in a later DAG run, or "
            "clear this one"
        )
