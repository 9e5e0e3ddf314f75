"""Airflow hooks of the DSS."""
