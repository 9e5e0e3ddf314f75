from __future__ import annotations

import pytest

from airflow_provider_hca.triggers.new_bundles import DSSNewBundleTrigger


def test_it_says_what_to_do_on_airflow_2() -> None:
    """On Airflow 2 the module can be imported, and using the trigger says what there is instead."""
    with pytest.raises(RuntimeError, match=r"begins with Airflow 3.*example_dss_new_bundles_scheduled\.py"):
        DSSNewBundleTrigger()
