"""Asset URIs of bundles."""
