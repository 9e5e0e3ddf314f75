"""Airflow triggers for the DSS."""
