"""A sensor for the Data Storage System (DSS): wait until a bundle is available."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.hooks.failures import retries_only_if_useful

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class DSSBundleSensor(BaseSensorOperator):
    """Wait until a bundle is available in one or more replicas (`GET /bundles/{uuid}`).

    Use `mode="reschedule"` for waits of minutes, so that no worker slot is held. What would never come true, such as
    a refused token or a uuid that is none, fails at once and spends no retry. A DSS that is down for longer than the
    connection's `retry_seconds` fails the try.

    Returns, also as an XCom each, `uuid`, `version` and `versions`, the version found in each replica.

    :param bundle_uuid: of the bundle (templated)
    :param bundle_version: of the bundle, a DSS_VERSION; any version will do if None (templated)
    :param replicas: those that must all have it, of `aws` and `gcp` (templated)
    :param dss_conn_id: the Airflow connection (templated)
    """

    template_fields: Sequence[str] = ("bundle_uuid", "bundle_version", "replicas", "dss_conn_id")
    ui_color = "#e8f4dc"

    def __init__(
        self,
        *,
        bundle_uuid: str,
        bundle_version: str | None = None,
        replicas: Sequence[str] = ("aws",),
        dss_conn_id: str = DSSHook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.bundle_uuid = bundle_uuid
        self.bundle_version = bundle_version
        self.replicas = replicas
        self.dss_conn_id = dss_conn_id

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Return whether all replicas have the bundle."""
        with retries_only_if_useful():
            versions = self._versions()
        missing = [replica for replica, version in versions.items() if version is None]
        if missing:
            self.log.info("bundle %s is not in %s yet", self._fqid, ", ".join(missing))
            return PokeReturnValue(is_done=False)
        self.log.info("bundle %s is in %s", self._fqid, ", ".join(versions))
        return PokeReturnValue(
            is_done=True,
            xcom_value={
                "uuid": self.bundle_uuid.lower(),
                "version": min(version for version in versions.values() if version),
                "versions": versions,
            },
        )

    def _versions(self) -> dict[str, str | None]:
        if isinstance(self.replicas, str) or not self.replicas:
            raise ValueError(f"replicas must be a list such as ['aws', 'gcp'], not {self.replicas!r}")
        with DSSHook(self.dss_conn_id) as hook:
            return {
                replica: hook.find_bundle(self.bundle_uuid, replica=replica, version=self.bundle_version or None)
                for replica in self.replicas
            }

    @property
    def _fqid(self) -> str:
        return f"{self.bundle_uuid}.{self.bundle_version}" if self.bundle_version else self.bundle_uuid
