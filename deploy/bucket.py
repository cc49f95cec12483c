"""Make the bucket named on the command line where it is missing: `python deploy/bucket.py grandrounds`."""

import os
import sys

import boto3

store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
if sys.argv[1] not in [each["Name"] for each in store.list_buckets()["Buckets"]]:
    store.create_bucket(Bucket=sys.argv[1])
