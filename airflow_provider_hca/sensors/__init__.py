"""Airflow sensors for the DSS."""
