"""A DSS on your own machine: real files, real checks, and switches that make it fail on demand.

`python -m airflow_provider_hca.local` starts it. It shares only `client.identifiers` with the rest of the package, so
that a mistake in the client cannot hide behind the same mistake in the server.
"""
