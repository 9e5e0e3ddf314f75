"""From a directory to a bundle: plan, stage, register. Knows nothing of Airflow."""
