"""Airflow operators for the DSS."""
