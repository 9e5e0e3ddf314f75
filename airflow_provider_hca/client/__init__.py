"""The DSS v1 protocol, without Airflow and without cloud SDKs: usable from a notebook."""
