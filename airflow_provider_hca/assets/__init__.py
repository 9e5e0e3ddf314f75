"""URIs of bundles as Airflow assets."""
