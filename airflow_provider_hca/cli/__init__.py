"""Commands `airflow hca ...`."""
