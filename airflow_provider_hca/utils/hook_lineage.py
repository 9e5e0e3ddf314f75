"""Hook-level lineage: report bundles that a task reads or creates through the hook itself."""

from __future__ import annotations

import logging
from typing import Any, Literal

log = logging.getLogger(__name__)

Role = Literal["input", "output"]


def report_bundle(hook: Any, api_url: str, role: Role, *, uuid: str, version: str, replica: str) -> None:
    """Add a bundle to Airflow's hook lineage collector, which does nothing if no listener reads it.

    :param hook: Hook that read or created the bundle
    :param api_url: URL of the DSS's API
    :param role: `input` or `output`
    :param uuid: UUID of the bundle
    :param version: Version of the bundle
    :param replica: `aws` or `gcp`
    """
    try:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        from airflow_provider_hca.assets.dss import bundle_uri

        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]  # it has no types
        add = collector.add_input_asset if role == "input" else collector.add_output_asset
        add(context=hook, uri=bundle_uri(api_url, replica=replica, uuid=uuid, version=version))
    except Exception as error:  # noqa: BLE001 - lineage must not fail a task whose bundle exists
        log.warning("cannot report the lineage of bundle %s.%s: %s", uuid, version, error)
