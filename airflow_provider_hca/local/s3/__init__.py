"""The S3 server in which files for the replica `aws` are staged."""
