"""`airflow hca ...`: what hook, upload and download do, at the command line."""
