"""Run an Airflow with Celery on one machine, and kill a worker during an ingest."""
