"""A load balancer that throttles and fails: moto's ELBv2 behind a server that does not always pass a call on."""

from __future__ import annotations

import logging
import random
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from interlock.adapters.aws.load_balancer import TargetGroup

_THROTTLED = (
    b"<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error>"
    b"</ErrorResponse>"
)
_BROKEN = (
    b"<ErrorResponse><Error><Type>Receiver</Type><Code>InternalFailure</Code><Message>no</Message></Error>"
    b"</ErrorResponse>"
)
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=60)


@dataclass
class Balancers:
    """An AWS API for load balancers.

    :param failing: target group, by name: the share of its calls that fail.
    """

    endpoint: str
    failing: dict[str, float] = field(default_factory=dict)

    def target_group(self, name: str) -> TargetGroup:
        """Make a target group."""
        client = self._client("ec2")
        vpc = client.describe_vpcs()["Vpcs"][0]["VpcId"]
        made = self._client("elbv2").create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc)
        return TargetGroup(self._client("elbv2"), made["TargetGroups"][0]["TargetGroupArn"])

    def instances(self, count: int) -> list[str]:
        """Make instances, which only what exists can be registered as."""
        ec2 = self._client("ec2")
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        made = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=count, MaxCount=count)
        return [one["InstanceId"] for one in made["Instances"]]

    def registered(self, group: TargetGroup) -> set[str]:
        """Return the instances that are sent requests."""
        every = self._client("elbv2").describe_target_health(TargetGroupArn=group.arn)["TargetHealthDescriptions"]
        return {one["Target"]["Id"] for one in every}

    def _client(self, kind: str) -> Any:
        return boto3.session.Session().client(
            kind,
            endpoint_url=self.endpoint,
            region_name="eu-west-3",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=_CONFIG,
        )


@contextmanager
def balancers(rng: random.Random) -> Iterator[Balancers]:
    """Start moto, and the server before it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print every call
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    front = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = Balancers(f"http://127.0.0.1:{front.server_port}")
    front.RequestHandlerClass = _handler(found, f"http://{host}:{port}", rng)
    thread = Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
        moto.stop()


def _handler(about: Balancers, behind: str, rng: random.Random) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            share = max((share for name, share in about.failing.items() if name.encode() in body), default=0.0)
            if rng.random() < share:
                code, answer = rng.choice([(400, _THROTTLED), (500, _BROKEN), (503, b"")])
                return self._answer(code, answer)
            asked = urllib.request.Request(f"{behind}{self.path}", body, dict(self.headers))
            try:
                with urllib.request.urlopen(asked) as answered:
                    self._answer(answered.status, answered.read())
            except urllib.error.HTTPError as error:
                self._answer(error.code, error.read())

        def _answer(self, code: int, body: bytes) -> None:
            with suppress(OSError):  # whoever asked has given up
                self.send_response(code)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
