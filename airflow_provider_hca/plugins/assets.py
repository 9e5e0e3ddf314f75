"""Route from the asset of a bundle to the bundle."""

from __future__ import annotations

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.asset import AssetModel
from airflow.providers.common.compat.sdk import BaseHook
from fastapi import APIRouter, HTTPException
from sqlalchemy import select

from airflow_provider_hca.assets.dss import dss_host, parse_bundle_uri
from airflow_provider_hca.plugins import access
from airflow_provider_hca.plugins.connections import list_connections
from airflow_provider_hca.plugins.models import Bundle

router = APIRouter(prefix="/api/assets")


@router.get("/{asset_id}", dependencies=[access.READS_ASSET])
def get_bundle_of_asset(asset_id: int, user: access.User, session: SessionDep) -> Bundle:
    """Return the bundle of an asset, with the first connection to the host in its URI."""
    uri = session.scalar(select(AssetModel.uri).where(AssetModel.id == asset_id)) or ""
    try:
        host, replica, uuid, version = parse_bundle_uri(uri)
    except ValueError:
        raise HTTPException(404, f"asset {asset_id} is not a bundle") from None
    for conn_id in list_connections(user, session).connections:
        if _host(conn_id) == host:
            return Bundle(connection=conn_id, replica=replica, uuid=uuid, version=version)
    raise HTTPException(404, f"no connection of type 'hca_dss' that you may use leads to {host!r}")


def _host(conn_id: str) -> str:
    try:
        return dss_host(str(BaseHook.get_connection(conn_id).host or ""))
    except Exception:  # noqa: BLE001 - malformed; Airflow's parser raises errors of many classes
        return ""
