"""Triggers for the Data Storage System (DSS)."""

from __future__ import annotations

from airflow_provider_hca.triggers.new_bundles import DSSNewBundleTrigger
from airflow_provider_hca.triggers.wait import DSSWaitTrigger

__all__ = ["DSSNewBundleTrigger", "DSSWaitTrigger"]
