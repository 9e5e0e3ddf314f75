"""A page in the Airflow UI: connections, bundles, ingests. Airflow 3.1 or newer; lives in the API server only."""
