"""Where uploads read from: local directories and buckets."""
