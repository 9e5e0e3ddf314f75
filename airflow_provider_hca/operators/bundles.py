"""The operators for bundles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_hca.exceptions import DSSCheckoutError
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.base import DSSOperator, DSSWaitingOperator, mappings, seconds
from airflow_provider_hca.triggers.dss import wait_result
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.openlineage import Data, OpenLineageMixin, file_inputs

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.hooks.dss import DSSHook

_CHECKOUT = "dss_checkout"  # the key in Airflow's store of task states


class DSSPutBundleOperator(OpenLineageMixin, DSSOperator):
    """Make a bundle of registered files (`PUT /bundles/{uuid}`).

    Returns, also as an XCom each, so that `task.output["uuid"]` is the bundle's uuid: `uuid`, `version`, `fqid`,
    `replica`, `file_count` and `created` (whether this try made it).

    :param files: the members in a stable order, each with `uuid`, `version`, `name` and `indexed`: what mapped
        put-file tasks return (templated)
    :param replica: `aws` or `gcp`: where the files are (templated)
    :param bundle_uuid: of the bundle; if None it derives from DAG run, task and map index (templated)
    :param bundle_version: of the bundle, a DSS_VERSION; if None it derives from the DAG run (templated)
    :param copy_timeout: how long to go on while the DSS says that a file is missing, as it does while it copies it, in
        seconds or as a `timedelta`
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
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        files: Iterable[Mapping[str, Any]] | XComArg,
        replica: str = "aws",
        bundle_uuid: str | None = None,
        bundle_version: str | None = None,
        copy_timeout: float | timedelta = 300,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.files = files
        self.replica = replica
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.copy_timeout = copy_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the bundle; return what it is called."""
        with self._running() as (hook, creator_uid):
            uuid, version = self.bundle_uuid or task_uuid(context), self.bundle_version or run_version(context)
            show_bundle(context, hook, replica=self.replica, uuid=uuid, version=version)
            files = _members(self.files)
            result = hook.put_bundle(
                uuid,
                version,
                replica=self.replica,
                files=files,
                creator_uid=creator_uid,
                missing_seconds=seconds("copy_timeout", self.copy_timeout),
            )
            self.log.info("bundle %s.%s of %d files: %s", result.uuid, result.version, len(files), result.outcome)
            made = {
                "uuid": result.uuid,
                "version": result.version,
                "fqid": f"{result.uuid}.{result.version}",
                "replica": self.replica,
                "file_count": len(files),
                "created": result.outcome == "created",
            }
            self._report_bundle(context, hook.api.url, made, file_inputs(hook.api.url, self.replica, files))
            return made


def _members(given: Any) -> list[Mapping[str, Any]]:
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
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
        raise ValueError(f"file names in a bundle must be unique; these are there more than once: {', '.join(twice)}")
    return files


class DSSPatchBundleOperator(OpenLineageMixin, DSSOperator):
    """Add files to a bundle and remove others, as a new version of it (`PATCH /bundles/{uuid}`).

    More than 1,000 additions or removals become several PATCHes, each of the version that the one before made. A retry
    asks the DSS how far the try before came and does the rest, and after an unclear answer the DSS is asked before a
    PATCH is sent again, so that nothing is made twice. Where everything is as wanted already, no version is made.

    Returns, also as an XCom each, `uuid`, `version` (the one that has all of it), `fqid`, `replica`, `file_count` (of
    that version) and `patch_count` (how many PATCHes this try took).

    :param bundle_uuid: of the bundle (templated)
    :param bundle_version: the version that is changed, a DSS_VERSION; the latest if None (templated)
    :param replica: `aws` or `gcp` (templated)
    :param add_files: those to be in it, each with `uuid`, `version`, `name` and `indexed`, such as what mapped
        put-file tasks return; any number. One that takes the name of another needs that one in `remove_files`
        (templated)
    :param remove_files: those to be out of it, each with `uuid`, `version`, `name` and `indexed`; any number
        (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "bundle_version",
        "replica",
        "add_files",
        "remove_files",
        "dss_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"add_files": "json", "remove_files": "json"}
    operator_extra_links = (DSSBundleLink(),)

    def __init__(
        self,
        *,
        bundle_uuid: str,
        bundle_version: str | None = None,
        replica: str = "aws",
        add_files: Iterable[Mapping[str, Any]] | XComArg = (),
        remove_files: Iterable[Mapping[str, Any]] | XComArg = (),
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.replica = replica
        self.add_files = add_files
        self.remove_files = remove_files

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the bundle; return what it is called now."""
        with self._running() as (hook, _):
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            added = mappings("add_files", self.add_files)
            change = hook.change_bundle(
                self.bundle_uuid,
                version=self.bundle_version,
                replica=self.replica,
                add_files=added,
                remove_files=mappings("remove_files", self.remove_files),
            )
            show_bundle(context, hook, replica=self.replica, uuid=change.uuid, version=change.version)
            self.log.info("bundle %s.%s after %d PATCHes", change.uuid, change.version, change.patches)
            made = {
                "uuid": change.uuid,
                "version": change.version,
                "fqid": f"{change.uuid}.{change.version}",
                "replica": self.replica,
                "file_count": change.count,
                "patch_count": change.patches,
            }
            inputs = file_inputs(hook.api.url, self.replica, added)
            before = {"uuid": change.uuid, "version": self.bundle_version, "replica": self.replica}
            if self.bundle_version and self.bundle_version != change.version:
                inputs.append(Data.bundle(hook.api.url, before))
            self._report_bundle(context, hook.api.url, made, inputs)
            return made


class DSSDeleteBundleOperator(DSSOperator):
    """Delete a bundle, or one version of it (`DELETE /bundles/{uuid}`). Only administrators of the DSS may.

    Deleting what is deleted already, for the same reason, succeeds, so a retry or a cleared run does no harm. Another
    reason, and a bundle that the DSS does not know, are errors that spend no retry.

    Returns, also as an XCom each, `uuid`, `version` (None if all of them) and `replica`.

    :param bundle_uuid: of the bundle (templated)
    :param bundle_version: which is deleted, a DSS_VERSION; all of them if None (templated)
    :param replica: `aws` or `gcp`; some time later it is deleted in the other one too (templated)
    :param reason: why; the DSS keeps it (templated)
    :param dss_conn_id: the Airflow connection, with an administrator's credentials (templated)
    """

    template_fields: Sequence[str] = ("bundle_uuid", "bundle_version", "replica", "reason", "dss_conn_id")

    def __init__(
        self,
        *,
        bundle_uuid: str,
        reason: str,
        bundle_version: str | None = None,
        replica: str = "aws",
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.bundle_uuid = bundle_uuid
        self.reason = reason
        self.bundle_version = bundle_version
        self.replica = replica

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Delete the bundle; return what it was called."""
        from airflow_provider_hca.client.identifiers import check_uuid

        with self._running() as (hook, _):
            uuid = check_uuid(self.bundle_uuid, "bundle_uuid")
            hook.delete_bundle(uuid, version=self.bundle_version, replica=self.replica, reason=self.reason)
            which = self.bundle_version or "all versions"
            self.log.info("bundle %s (%s) is deleted", uuid, which)
            return {"uuid": uuid, "version": self.bundle_version, "replica": self.replica}


class DSSCheckoutBundleOperator(DSSWaitingOperator):
    """Have a bundle's files copied to a bucket (`POST /bundles/{uuid}/checkout`), and wait until they are there.

    A retry goes on waiting for the checkout that the try before began, with Airflow 3.3 or newer, which keeps a task's
    state; else, and after one that failed, it begins another. A cleared task begins another.

    Returns, also as an XCom each, `checkout_job_id`, `replica` and `location` (where the files are, if the DSS says).

    :param bundle_uuid: of the bundle (templated)
    :param bundle_version: of the bundle, a DSS_VERSION; the latest if None (templated)
    :param replica: `aws` or `gcp` (templated)
    :param destination: a bucket that the DSS may write to; one of its own if None (templated)
    :param notify: e-mail address of whom the DSS tells when it is done (templated)
    :param checkout_timeout: how long to wait, in seconds or as a `timedelta`
    :param deferrable: whether to wait in the triggerer; by default as Airflow's `[operators] default_deferrable` says
    :param poll_interval: between two looks, in seconds or as a `timedelta`
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = (
        "bundle_uuid",
        "bundle_version",
        "replica",
        "destination",
        "notify",
        "dss_conn_id",
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
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.replica = replica
        self.destination = destination
        self.notify = notify
        self.checkout_timeout = checkout_timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Check the bundle out; return where it is."""
        from airflow_provider_hca.client.waiters import CheckoutWaiter, wait_for

        with self._running() as (hook, _):
            show_bundle(context, hook, replica=self.replica, uuid=self.bundle_uuid, version=self.bundle_version)
            deadline = time.time() + seconds("checkout_timeout", self.checkout_timeout)
            store = context.get("task_state_store")
            job = self._begun(hook, store) or hook.post_bundles_checkout(
                self.bundle_uuid,
                version=self.bundle_version or None,
                replica=self.replica,
                destination=self.destination or None,
                email=self.notify or None,
            )
            if store is not None:
                store.set(_CHECKOUT, self._asked() | {"checkout_job_id": job})
            self.log.info("checkout %s of bundle %s has begun", job, self.bundle_uuid)
            wait = CheckoutWaiter(job, self.replica)
            if self.deferrable:
                self._wait_in_triggerer(wait, deadline, {"checkout_job_id": job})
            looking = wait_for(hook.api, wait, seconds=deadline - time.time(), every=self.poll_interval)
            return self._done(context, job, hook.get_conn().run(looking))

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Take up the task after its wait in the triggerer; return where the files are."""
        result, carried = wait_result(event)
        return self._done(context, carried["checkout_job_id"], result)

    def _begun(self, hook: DSSHook, store: Any) -> str | None:
        """Return the checkout that an earlier try began, if it may still come to something."""
        from airflow_provider_hca.client.waiters import CheckoutWaiter

        begun = None if store is None else store.get(_CHECKOUT)
        job = begun.get("checkout_job_id") if isinstance(begun, dict) else None
        # Who mends the arguments of a task that failed, and clears it, does not want the checkout of before.
        if not isinstance(job, str) or begun != self._asked() | {"checkout_job_id": job}:
            return None
        try:
            hook.get_conn().run(CheckoutWaiter(job, self.replica).check(hook.api))
        except DSSCheckoutError:
            return None
        return job

    def _asked(self) -> dict[str, Any]:
        asked = ("dss_conn_id", "bundle_uuid", "bundle_version", "replica", "destination")
        return {name: getattr(self, name) or None for name in asked}

    def _done(self, context: Context, job: str, result: dict[str, Any] | None) -> dict[str, Any]:
        if result is None:
            raise DSSCheckoutError(job, "RUNNING")
        store: Any = context.get("task_state_store")
        if store is not None:
            store.delete(_CHECKOUT)  # it would outlive a clear, which is to check out anew
        self.log.info("checkout %s is done%s", job, f": {result['location']}" if result["location"] else "")
        return result
