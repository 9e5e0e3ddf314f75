"""Where uploads stage objects: buckets of S3 and Google Cloud Storage."""
