"""What Airflow reads about this provider.

A mistake here breaks every `airflow` command, so it is one literal, without imports or logic.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description (Airflow's `provider_info.schema.json`)."""
    return {
        "package-name": "airflow-provider-hca",
        "name": "Human Cell Atlas DSS",
        "description": "Ingest into the Data Storage System (DSS) of the Human Cell Atlas.",
        "integrations": [
            {
                "integration-name": "HCA Data Storage System",
                "external-doc-url": "https://github.com/HumanCellAtlas/data-store",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": "HCA Data Storage System",
                "python-modules": ["airflow_provider_hca.hooks.dss"],
            }
        ],
        "operators": [
            {
                "integration-name": "HCA Data Storage System",
                "python-modules": ["airflow_provider_hca.operators.dss"],
            }
        ],
        "sensors": [
            {
                "integration-name": "HCA Data Storage System",
                "python-modules": ["airflow_provider_hca.sensors.dss"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "hca_dss",
                "hook-class-name": "airflow_provider_hca.hooks.dss.DSSHook",
                "hook-name": "HCA Data Storage System (DSS)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "login"],
                    "relabeling": {"host": "API URL", "password": "Token"},
                    "placeholders": {
                        "host": "https://dss.example.org/v1",
                        "password": "a token (JWT); or leave empty and give key_path in extra",
                        "extra": '{"key_path": "/etc/dss/key.json", "audience": "https://dss.example.org/"}',
                    },
                },
            }
        ],
    }
