"""Apache Airflow provider for the Data Storage System (DSS) of the Human Cell Atlas."""

__version__ = "0.1.0"
