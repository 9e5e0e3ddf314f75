"""Description of this provider for Airflow.

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
        "cli": ["airflow_provider_hca.cli.definition.get_cli_commands"],
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
        "triggers": [
            {
                "integration-name": "HCA Data Storage System",
                "python-modules": ["airflow_provider_hca.triggers.dss"],
            }
        ],
        "asset-uris": [
            {
                "schemes": ["dss"],
                "handler": "airflow_provider_hca.assets.dss.sanitize_uri",
                "to_openlineage_converter": "airflow_provider_hca.assets.dss.to_openlineage",
            }
        ],
        # Airflow 2 reads this name.
        "dataset-uris": [
            {
                "schemes": ["dss"],
                "handler": "airflow_provider_hca.assets.dss.sanitize_uri",
                "to_openlineage_converter": "airflow_provider_hca.assets.dss.to_openlineage",
            }
        ],
        "extra-links": ["airflow_provider_hca.links.dss.DSSBundleLink"],
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
                        "password": "a long-lived token (JWT), or use the fields below",
                    },
                },
                # In the order of the form. Airflow stores them in the connection's extra.
                "conn-fields": {
                    "key_path": {
                        "label": "Key path",
                        "description": "Path of a Google service account key file (JSON) on the workers.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "keyfile_dict": {
                        "label": "Key JSON",
                        "description": "Content of a key file, instead of its path.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "audience": {
                        "label": "Audience",
                        "description": "For a service account: aud claim that the DSS expects, including a trailing "
                        "slash. By default https://dev.data.humancellatlas.org/.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "group": {
                        "label": "Group",
                        "description": "For a service account: group claim. By default hca.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "refresh_token": {
                        "label": "Refresh token",
                        "description": "Refresh token of a user's OAuth2 login; requires the three fields below.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "token_uri": {
                        "label": "Token URI",
                        "description": "URL that refreshes the OAuth2 token, such as https://login.example.org/token.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_id": {
                        "label": "Client id",
                        "description": "Id of the OAuth2 client.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "client_secret": {
                        "label": "Client secret",
                        "description": "Secret of the OAuth2 client.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "creator_uid": {
                        "label": "Creator uid",
                        "description": "Creator of files and bundles, unless a task sets it. By default 0.",
                        "schema": {"type": ["integer", "null"], "minimum": 0},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or path of a CA bundle on the workers. By default true.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "connect_timeout": {
                        "label": "Connect timeout",
                        "description": "Seconds to wait for a connection. By default 10.",
                        "schema": {"type": ["number", "null"], "minimum": 0},
                    },
                    "read_timeout": {
                        "label": "Read timeout",
                        "description": "Seconds to wait for a response. By default 40.",
                        "schema": {"type": ["number", "null"], "minimum": 0},
                    },
                    "retry_attempts": {
                        "label": "Retry attempts",
                        "description": "Maximum number of times an idempotent request is sent. By default 10.",
                        "schema": {"type": ["integer", "null"], "minimum": 0},
                    },
                    "retry_seconds": {
                        "label": "Retry seconds",
                        "description": "Seconds during which an idempotent request is repeated. By default 50.",
                        "schema": {"type": ["number", "null"], "minimum": 0},
                    },
                },
            }
        ],
    }
