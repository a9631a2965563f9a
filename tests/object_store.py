"""A real S3 server on this machine for tests: moto's, over HTTP, with a bucket."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def serve_objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Yield the URL of an empty bucket and the server's endpoint; credentials are in the environment meanwhile."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    for name, value in {"ACCESS_KEY_ID": "tests", "SECRET_ACCESS_KEY": "tests", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        bucket = f"shop-{uuid.uuid4().hex}"  # moto keeps one set of buckets for all servers of a process
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
        yield f"s3://{bucket}", endpoint
    finally:
        server.stop()
