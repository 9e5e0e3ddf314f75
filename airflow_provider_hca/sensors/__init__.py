"""Airflow sensors of the DSS."""
