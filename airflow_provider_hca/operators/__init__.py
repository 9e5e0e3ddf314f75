"""Airflow operators of the DSS."""
