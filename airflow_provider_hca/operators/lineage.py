"""What a task tells of the bundle that it made: to the DAGs that are scheduled on its outlets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.assets import bundle_uri, dss_host

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def tell_outlets(context: Context, outlets: list[Any], api_url: str, made: Mapping[str, Any]) -> None:
    """Add to the events of a task's outlets which bundle it made; to an alias, the bundle as an asset.

    :param context: of the running task
    :param outlets: of the task, of which all but assets, references to them and aliases are left alone
    :param api_url: of the DSS that has the bundle
    :param made: what the task returns: `uuid`, `version`, `fqid`, `replica`, `file_count`, and maybe `byte_count`
    """
    if not outlets:
        return
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    extra = {name: made[name] for name in ("fqid", "uuid", "version", "replica", "file_count")}
    extra["host"] = dss_host(api_url)
    if "byte_count" in made:
        extra["bytes"] = made["byte_count"]
    events: Any = context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            uri = bundle_uri(api_url, replica=made["replica"], uuid=made["uuid"], version=made["version"])
            events[outlet].add(Asset(uri=uri), extra=extra)
        elif isinstance(outlet, (Asset, *_references())):
            events[outlet].extra.update(extra)


def _references() -> tuple[type, ...]:
    """Return what stands for an asset that another DAG defines; Airflow 2 has no such thing."""
    if not AIRFLOW_V_3_0_PLUS:
        return ()
    from airflow.sdk.definitions.asset import AssetRef

    return (AssetRef,)
