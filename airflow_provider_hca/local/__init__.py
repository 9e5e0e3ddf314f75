"""A DSS on one machine: real storage and real checks, with faults that can be injected.

Start it with `dss-local`. It shares only `client.identifiers` with the rest of the package, so that a bug in the client
cannot hide behind the same bug in the server.
"""
