"""Page in the Airflow UI: connections, bundles and ingests. Needs Airflow 3.1; runs in the API server only."""
