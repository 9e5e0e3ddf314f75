"""Extra link of a task to its bundle: to the page in the Airflow UI, before Airflow 3.1 to the DSS."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_hca.hooks.dss import DSSHook

_MAX_NAME = 500  # characters, the last ones: those of a path differ most

log = logging.getLogger(__name__)


class DSSBundleLink(BaseOperatorLink):
    """Link from a task to the bundle that it creates, changes, downloads or waits for."""

    name = "DSS bundle"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the URL that the task stored with `show_bundle`; empty if it has not yet."""
        from airflow_provider_hca.utils.ui_links import LINK_KEY

        return str(XCom.get_value(ti_key=ti_key, key=LINK_KEY) or "")


def show_bundle(
    context: Context, hook: DSSHook, *, replica: str, uuid: str, version: str | None, name: str | None = None
) -> None:
    """Store the link to a bundle, which the UI shows while the task runs.

    :param context: Context of the running task
    :param hook: Hook of the task
    :param replica: `aws` or `gcp`
    :param uuid: UUID of the bundle
    :param version: Version of the bundle; the latest if None
    :param name: Name of the bundle for people, such as its directory; the page finds the bundle by it
    """
    from airflow_provider_hca.utils.ui_links import LINK_KEY, NAME_KEY, BundleAddress

    try:
        address = BundleAddress.checked(hook.dss_conn_id, replica, uuid, version)
    except ValueError:
        return  # the task reports invalid arguments itself
    try:
        if AIRFLOW_V_3_1_PLUS:
            link = address.on_page(conf.get("api", "base_url", fallback=""))
        else:
            link = address.at_dss(hook.api.url)
        context["ti"].xcom_push(key=LINK_KEY, value=link)
        if name:
            context["ti"].xcom_push(key=NAME_KEY, value=str(name)[-_MAX_NAME:])
    except Exception as error:  # noqa: BLE001 - a missing link must not fail the task
        log.warning("cannot store the link to the bundle: %s", error)
