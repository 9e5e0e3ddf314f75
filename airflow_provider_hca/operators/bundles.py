"""The operators for bundles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_hca.operators.base import DSSOperator
from airflow_provider_hca.operators.identity import run_version, task_uuid

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg


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
