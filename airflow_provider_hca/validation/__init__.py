"""Check a planned directory of HCA metadata before it is uploaded. No Airflow, no network except buckets."""
