"""Airflow triggers of the DSS."""
