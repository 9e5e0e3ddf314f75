"""What a hook tells Airflow of the bundles that are read and made with it, for tasks that call it themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_provider_hca.hooks.dss import DSSHook

log = logging.getLogger(__name__)

Role = Literal["input", "output"]


def tell_bundle(hook: DSSHook, role: Role, uuid: str, version: str, replica: str) -> None:
    """Tell Airflow's collector of hooks' lineage of a bundle; where nothing reads what it collects, it does nothing.

    :param hook: that read it or made it
    :param role: which of the two
    :param uuid: of the bundle
    :param version: of the bundle
    :param replica: `aws` or `gcp`
    """
    try:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        from airflow_provider_hca.assets import bundle_uri

        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]  # it has no types
        add = collector.add_input_asset if role == "input" else collector.add_output_asset
        add(context=hook, uri=bundle_uri(hook.api.url, replica=replica, uuid=uuid, version=version))
    except Exception as error:  # noqa: BLE001 - a bundle that was made is not to fail because nobody could be told of it
        log.warning("cannot tell Airflow of the lineage of bundle %s.%s: %s", uuid, version, error)
