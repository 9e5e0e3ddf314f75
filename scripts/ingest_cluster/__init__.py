"""An Airflow with Celery on one machine, and an ingest during which a worker is killed."""
