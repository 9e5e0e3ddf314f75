"""Operators for bundles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_hca.exceptions import DSSCheckoutError, DSSResponseError, DSSWaitError
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import DSSDeferrableOperator, DSSOperator, identity, resolve_creator_uid
from airflow_provider_hca.triggers.wait import wait_result
from airflow_provider_hca.units import count_text
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.openlineage import OpenLineageMixin, file_inputs
from airflow_provider_hca.utils.validation import mappings, seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.hooks.dss import DSSHook

_CHECKOUT_KEY = "dss_checkout"  # in Airflow's task state store
# After the triggerer has seen all files, one that is missing is only not yet visible to every server of the DSS.
_VISIBLE_WITHIN = 300.0


class DSSPutBundleOperator(OpenLineageMixin, DSSDeferrableOperator):
    """Create a bundle from registered files (`PUT /bundles/{uuid}`).

    Returns, also as separate XComs such as `task.output["uuid"]`: `uuid`, `version`, `fqid`, `replica`, `file_count`
    and `created` (whether this try created the bundle).

    A DSS that is still copying a file answers `file_missing`. The task then waits for up to `file_missing_timeout`: it
    repeats the request, or with `deferrable=True` waits in the triggerer until the DSS has all files.

    :param files: Files of the bundle in a stable order, each with `uuid`, `version`, `name` and `indexed`, for example
        the output of mapped `DSSPutFileOperator` tasks. (templated)
    :param replica: Replica that has the files, `aws` or `gcp`. (templated)
    :param bundle_uuid: UUID of the bundle; derived from DAG run, task and map index if None. (templated)
    :param bundle_version: Version of the bundle, a DSS_VERSION; derived from the DAG run if None. (templated)
    :param file_missing_timeout: Time to wait for files that the DSS reports as missing, in seconds or as a `timedelta`
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    :param poll_interval: Time between two polls in the triggerer, in seconds or as a `timedelta`
    :param creator_uid: Creator of the bundle; `creator_uid` of the connection if None. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    """

    template_fields: Sequence[str] = (
        "files",
        "replica",
        "bundle_uuid",
        "bundle_version",
        "creator_uid",
        *DSSDeferrableOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"files": "json"}
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        files: Iterable[Mapping[str, Any]] | XComArg,
        replica: str = "aws",
        bundle_uuid: str | None = None,
        bundle_version: str | None = None,
        file_missing_timeout: float | timedelta = 300,
        creator_uid: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.replica = replica
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.file_missing_timeout = file_missing_timeout
        self.creator_uid = creator_uid

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the bundle."""
        with self._open_hook() as hook:
            timeout = seconds("file_missing_timeout", self.file_missing_timeout)
            uuid, version = self.bundle_uuid or task_uuid(context), self.bundle_version or run_version(context)
            show_bundle(context, hook, replica=self.replica, uuid=uuid, version=version)
            files = _bundle_files(self.files)
            try:
                result = self._put(context, hook, uuid, version, files, 0.0 if self.deferrable else timeout)
            except DSSResponseError as error:
                if not self.deferrable or error.code != "file_missing":
                    raise
                self.log.info("%s", error)
                self._defer_for_files(uuid, version, files, time.time() + timeout)
                result = self._put(context, hook, uuid, version, files, timeout)
            return result

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Create the bundle after the wait in the triggerer."""
        result, carried = wait_result(event)
        if result is None:
            raise DSSWaitError(
                f"the DSS still misses files of bundle {'.'.join(carried['bundle'])} after file_missing_timeout: check "
                "that they are registered, or increase file_missing_timeout"
            )
        with self._open_hook() as hook:
            uuid, version = carried["bundle"]
            return self._put(context, hook, uuid, version, _bundle_files(self.files), _VISIBLE_WITHIN)

    def _defer_for_files(self, uuid: str, version: str, files: list[Mapping[str, Any]], deadline: float) -> None:
        """Wait in the triggerer, unless these are too many files for a trigger."""
        from airflow_provider_hca.client.waiters import FilesWaiter

        waiter = FilesWaiter([{name: file[name] for name in ("uuid", "version")} for file in files], [self.replica])
        if self._may_defer(waiter):
            # With its name: clearing another task of the run meanwhile gives the run another version.
            self._defer_wait(waiter, deadline, {"bundle": [uuid, version]})

    def _put(
        self,
        context: Context,
        hook: DSSHook,
        uuid: str,
        version: str,
        files: list[Mapping[str, Any]],
        missing_seconds: float,
    ) -> dict[str, Any]:
        # Not hook.put_bundle(), which reports the bundle to hook-level lineage: the operator reports it.
        put = hook.get_conn().put_bundle(
            uuid,
            version,
            replica=self.replica,
            files=files,
            creator_uid=resolve_creator_uid(self.creator_uid, hook),
            missing_seconds=missing_seconds,
        )
        size = count_text(len(files), "file", "files")
        self.log.info("bundle %s.%s of %s: %s", put.uuid, put.version, size, put.outcome)
        result = {
            **identity(put.uuid, put.version, self.replica),
            "file_count": len(files),
            "created": put.outcome == "created",
        }
        self._report_bundle(context, hook.api.url, result, file_inputs(hook.api.url, self.replica, files))
        return result


def _bundle_files(given: Any) -> list[Mapping[str, Any]]:
    files = mappings("files", given)
    if not files:
        raise ValueError("files is empty: a bundle needs at least one file")
    names = Counter(str(file.get("name")) for file in files)
    duplicates = sorted(name for name, count in names.items() if count > 1)
    if duplicates:
        raise ValueError(f"names of files must be unique in a bundle, got duplicates: {', '.join(duplicates)}")
    return files


class DSSDeleteBundleOperator(DSSOperator):
    """Delete a bundle, or one version of it (`DELETE /bundles/{uuid}`). Only administrators of the DSS may do this.

    Repeating a deletion with the same reason succeeds, so a retry or a cleared run is safe. Another reason, or a bundle
    that the DSS does not know, fails immediately, without retries.

    Returns, also as separate XComs: `uuid`, `version`, `fqid` (both None if all versions) and `replica`.

    :param bundle_uuid: UUID of the bundle. (templated)
    :param bundle_version: Version to delete, a DSS_VERSION; all versions if None. (templated)
    :param replica: Replica to delete it from, `aws` or `gcp`; the DSS later deletes it from the other one too.
        (templated)
    :param reason: Reason for the deletion, which the DSS stores. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`, with the credentials of an administrator. (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "bundle_version",
        "replica",
        "reason",
        *DSSOperator.template_fields,
    )
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        bundle_uuid: str,
        reason: str,
        bundle_version: str | None = None,
        replica: str = "aws",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bundle_uuid = bundle_uuid
        self.reason = reason
        self.bundle_version = bundle_version
        self.replica = replica

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the bundle."""
        from airflow_provider_hca.client.identifiers import check_uuid

        with self._open_hook() as hook:
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            uuid = check_uuid(self.bundle_uuid, "bundle_uuid")
            hook.delete_bundle(uuid, version=self.bundle_version, replica=self.replica, reason=self.reason)
            self.log.info("deleted bundle %s, %s", uuid, self.bundle_version or "all versions")
            return identity(uuid, self.bundle_version, self.replica)


class DSSCheckoutBundleOperator(DSSDeferrableOperator):
    """Copy the files of a bundle to a bucket (`POST /bundles/{uuid}/checkout`), and wait until they are copied.

    With Airflow 3.3 or newer, which stores the state of a task, a retry resumes the wait for the checkout that the
    previous try started. On older versions, after a failed checkout, and after a clear, the task starts a new one.

    Returns, also as separate XComs: `uuid`, `version`, `fqid` (both None if the latest version was requested),
    `replica`, `checkout_job_id` and `location` (URL of the copied files, if the DSS reports it).

    :param bundle_uuid: UUID of the bundle. (templated)
    :param bundle_version: Version of the bundle, a DSS_VERSION; the latest if None. (templated)
    :param replica: Replica to copy from, `aws` or `gcp`. (templated)
    :param destination: Bucket that the DSS may write to; the DSS's own if None. (templated)
    :param notify: E-mail address that the DSS notifies at the end. (templated)
    :param checkout_timeout: Time to wait for the checkout, in seconds or as a `timedelta`
    :param deferrable: Whether to wait in the triggerer; `[operators] default_deferrable` by default
    :param poll_interval: Time between two polls, in seconds or as a `timedelta`
    :param dss_conn_id: Airflow connection of type `hca_dss`. (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "bundle_version",
        "replica",
        "destination",
        "notify",
        *DSSDeferrableOperator.template_fields,
    )
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        bundle_uuid: str,
        bundle_version: str | None = None,
        replica: str = "aws",
        destination: str | None = None,
        notify: str | None = None,
        checkout_timeout: float | timedelta = 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.replica = replica
        self.destination = destination
        self.notify = notify
        self.checkout_timeout = checkout_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Check out the bundle."""
        from airflow_provider_hca.client.waiters import CheckoutWaiter, wait_for

        with self._open_hook() as hook:
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            deadline = time.time() + seconds("checkout_timeout", self.checkout_timeout)
            store = context.get("task_state_store")
            job = self._previous_job(hook, store) or hook.post_bundles_checkout(
                self.bundle_uuid,
                version=self.bundle_version or None,
                replica=self.replica,
                destination=self.destination or None,
                email=self.notify or None,
            )
            if store is not None:
                store.set(_CHECKOUT_KEY, self._request() | {"checkout_job_id": job})
            self.log.info("checkout %s of bundle %s", job, self.bundle_uuid)
            waiter = CheckoutWaiter(job, self.replica)
            if self.deferrable:
                self._defer_wait(waiter, deadline, {"checkout_job_id": job})
            call = wait_for(hook.api, waiter, seconds=deadline - time.time(), every=self.poll_interval)
            return self._complete(context, job, hook.get_conn().run(call))

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Return the result of the checkout after the wait in the triggerer."""
        result, carried = wait_result(event)
        return self._complete(context, carried["checkout_job_id"], result)

    def _previous_job(self, hook: DSSHook, store: Any) -> str | None:
        """Return the checkout that a previous try started, unless it failed or requested something else."""
        from airflow_provider_hca.client.waiters import CheckoutWaiter

        stored = None if store is None else store.get(_CHECKOUT_KEY)
        job = stored.get("checkout_job_id") if isinstance(stored, dict) else None
        # A failed task may have been cleared after its arguments were corrected.
        if not isinstance(job, str) or stored != self._request() | {"checkout_job_id": job}:
            return None
        try:
            hook.get_conn().run(CheckoutWaiter(job, self.replica).check(hook.api))
        except DSSCheckoutError:
            return None
        return job

    def _request(self) -> dict[str, Any]:
        names = ("dss_conn_id", "bundle_uuid", "bundle_version", "replica", "destination")
        return {name: getattr(self, name) or None for name in names}

    def _complete(self, context: Context, job: str, result: dict[str, Any] | None) -> dict[str, Any]:
        from airflow_provider_hca.client.identifiers import check_uuid

        if result is None:
            raise DSSCheckoutError(job, "RUNNING")
        store: Any = context.get("task_state_store")
        if store is not None:
            store.delete(_CHECKOUT_KEY)  # it would survive a clear, which has to start a new checkout
        location = result["location"]
        self.log.info("checkout %s succeeded%s", job, f": {location}" if location else "")
        return {
            **identity(check_uuid(self.bundle_uuid), self.bundle_version or None, self.replica),
            "checkout_job_id": job,
            "location": location,
        }
