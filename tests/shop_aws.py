"""What a shop has in AWS beside its hosts, and accounts with no other rights than the documentation asks for."""

from __future__ import annotations

import io
import json
import re
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from interlock.locations import PROJECT

ClientOf = Callable[[str], Any]
"""Returns a boto3 client of a service, such as ``iam``."""


def tell(endpoint: str, path: str, what: Any) -> None:
    """Tell moto's server something about itself."""
    about = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{endpoint}/moto-api/{path}", json.dumps(what).encode(), about, method="POST")
    with urllib.request.urlopen(asked, timeout=10):
        pass


def answers(endpoint: str, region: str, *said: str) -> None:
    """Have the functions of moto's server, which it does not run, give these answers, one to each call."""
    tell(endpoint, "config", {"lambda": {"use_docker": False}})
    for one in said:
        tell(endpoint, "static/lambda-simple/response", {"results": [one], "region": region})


def make_database(rds: Any) -> None:
    """Make the database instance ``shop``."""
    rds.create_db_instance(
        DBInstanceIdentifier="shop",
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        MasterUsername="shop",
        MasterUserPassword="only-for-this-test",
        AllocatedStorage=10,
    )


def make_function(iam: Any, functions: Any) -> None:
    """Make the function ``notify``, of which the alias ``live`` means version 1."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as packed:
        packed.writestr("notify.py", "def handler(event, context):\n    return event\n")
    functions.create_function(
        FunctionName="notify",
        Runtime="python3.11",
        Role=iam.create_role(RoleName="notify", AssumeRolePolicyDocument="{}")["Role"]["Arn"],
        Handler="notify.handler",
        Code={"ZipFile": code.getvalue()},
        Publish=True,
    )
    functions.create_alias(FunctionName="notify", Name="live", FunctionVersion="1")


def make_document(ssm: Any) -> None:
    """Make the Command document ``Shop-Flush``."""
    what = {"action": "aws:runShellScript", "name": "flush", "inputs": {"runCommand": ["true"]}}
    content = json.dumps({"schemaVersion": "2.2", "description": "Flush", "mainSteps": [what]})
    ssm.create_document(Name="Shop-Flush", DocumentType="Command", Content=content)


def documented_rights(kind: str) -> list[str]:
    """Return the rights that the documentation names for a kind of step, as it stands in its table."""
    page = (PROJECT / "docs" / "service-team.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {re.escape(kind)} \| (`[a-z]+:.*) \|$", page, re.MULTILINE)
    return re.findall(r"`([a-z]+:\w+)`", row)


def account_with(iam: Any, name: str, rights: Sequence[str]) -> tuple[str, str]:
    """Make an account with these rights and no others; return its key's id and secret."""
    iam.create_user(UserName=name)
    allowed = {"Effect": "Allow", "Action": list(rights), "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=name, PolicyName="steps", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]
