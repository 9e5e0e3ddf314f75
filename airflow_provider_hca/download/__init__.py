"""Download bundles into directories and verify their files."""
