"""Actions of AWS: a document of Systems Manager, a Lambda function, a snapshot of an RDS database instance.

AWS does two of them once by itself: an Automation has a client token, and a snapshot has a name. A Command document and
a function are done as often as they are asked for, so their clients repeat no call, and what is not known stays so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
)

from interlock.domain.catalogue.runbook_file import DocumentStep, FunctionStep, SnapshotStep
from interlock.domain.errors import AssetMissing, TransientError

from . import Seen

_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, NoCredentialsError)
_THROTTLED = ("Throttling", "ThrottlingException", "TooManyUpdates", "RequestLimitExceeded")
_SERVER_ERROR = 500
_CLOCKS = timedelta(minutes=5)
"""How far the clocks of the ledger and of AWS may be apart."""
_SAID = 2000


def without_repeats(within: timedelta) -> Config:
    """Return the configuration of a client for what AWS would do twice.

    :param within: time in which it has to answer.
    """
    return Config(
        retries={"total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=within.total_seconds() + 10,
        tcp_keepalive=True,
    )


class Automation:
    """An Automation of Systems Manager, which a client token makes one, and a tag makes known."""

    once, shown_after = True, timedelta()

    def __init__(self, step: DocumentStep, ssm: Any) -> None:
        self._step, self._ssm = step, ssm

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the version of the document, and its digest."""
        return _pin_document(self._ssm, self._step, "Automation", pinned)

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        """Start it; with the same token, AWS answers with the execution that there is."""

        def start() -> Seen:
            started = self._ssm.start_automation_execution(
                DocumentName=self._step.name,
                DocumentVersion=pinned["version"],
                Parameters={name: list(values) for name, values in self._step.parameters.items()},
                ClientToken=str(UUID(id)),
                Tags=[{"Key": _tag(id), "Value": "a step of a release's runbook"}],
            )
            return Seen(ended=False, said=str(started["AutomationExecutionId"]))

        return _begun(start)

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        """Return what became of the execution with the tag of the step."""
        found = self._executions(id)
        if not found:
            return None
        one, state = found[0], str(found[0]["AutomationExecutionStatus"])
        ran = (one.get("DocumentName"), one.get("DocumentVersion"))
        said = f"Automation {one['AutomationExecutionId']}: {state}"
        if len(found) > 1 or ran != (self._step.name, pinned["version"]):
            return Seen(ended=True, said=said, reason=f"{len(found)} executions have its tag; the first is of {ran}")
        if state in ("Success", "CompletedWithSuccess"):
            return Seen(ended=True, said=said)
        if state in ("TimedOut", "Cancelled", "Failed", "Rejected", "CompletedWithFailure", "Exited"):
            why = str(one.get("FailureMessage") or "")[:_SAID]
            return Seen(ended=True, said=said, reason=f"the Automation ended as {state}{f': {why}' if why else ''}")
        return Seen(ended=False, said=said)

    def stop(self, id: str, since: datetime) -> str:
        """Cancel it."""
        for one in self._executions(id):
            with _answered(f"stop the Automation {one['AutomationExecutionId']}"):
                self._ssm.stop_automation_execution(AutomationExecutionId=one["AutomationExecutionId"], Type="Cancel")
        return ""

    def _executions(self, id: str) -> list[dict[str, Any]]:
        with _answered("look up the Automations with the tag of the step"):
            return list(
                self._ssm.describe_automation_executions(Filters=[{"Key": "TagKey", "Values": [_tag(id)]}])[
                    "AutomationExecutionMetadataList"
                ]
            )


class RunCommand:
    """A Command document of Systems Manager on one host. The comment of the command names the step.

    :param ssm: reads; ``ssm_once``: sends, and repeats no call. :param instance: id of the host's instance.
    """

    once, shown_after = False, timedelta(minutes=1)

    def __init__(self, step: DocumentStep, ssm: Any, ssm_once: Any, instance: str) -> None:
        self._step, self._ssm, self._once, self._instance = step, ssm, ssm_once, instance

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the version of the document, and its digest."""
        return _pin_document(self._ssm, self._step, "Command", pinned)

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        """Send the command; Systems Manager refuses a document with another digest."""

        def send() -> Seen:
            self._once.send_command(
                InstanceIds=[self._instance],
                DocumentName=self._step.name,
                DocumentVersion=pinned["version"],
                DocumentHash=pinned["sha256"],
                DocumentHashType="Sha256",
                Parameters={name: list(values) for name, values in self._step.parameters.items()},
                Comment=_comment(id),
            )
            return Seen(ended=False)

        return _begun(send, doubtful=True)

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        """Return what became of the command with the comment of the step."""
        found = self._command(id, since)
        if found is None:
            return None
        state, said = str(found["Status"]), f"command {found['CommandId']}: {found['Status']}"
        if found.get("DocumentName") != self._step.name:
            return Seen(ended=True, said=said, reason=f"the command is of the document {found.get('DocumentName')}")
        if state in ("Pending", "InProgress", "Cancelling"):
            return Seen(ended=False, said=said)
        why = "" if state == "Success" else f"the command ended as {found.get('StatusDetails') or state}"
        return Seen(ended=True, said=f"{said}. {self._output(found['CommandId'])}".rstrip(". "), reason=why)

    def stop(self, id: str, since: datetime) -> str:
        """Cancel it."""
        if (found := self._command(id, since)) is not None:
            with _answered(f"cancel the command {found['CommandId']}"):
                self._ssm.cancel_command(CommandId=found["CommandId"])
        return ""

    def _command(self, id: str, since: datetime) -> dict[str, Any] | None:
        after = [{"key": "InvokedAfter", "value": f"{since - _CLOCKS:%Y-%m-%dT%H:%M:%SZ}"}]
        with _answered(f"look up the commands of {self._instance}"):
            pages = self._ssm.get_paginator("list_commands").paginate(InstanceId=self._instance, Filters=after)
            return next((one for page in pages for one in page["Commands"] if one.get("Comment") == _comment(id)), None)

    def _output(self, command: str) -> str:
        with _answered(f"read the output of the command {command}"):
            one = self._ssm.get_command_invocation(CommandId=command, InstanceId=self._instance)
        return str(one.get("StandardOutputContent") or one.get("StandardErrorContent") or "").strip()[-_SAID:]


class Function:
    """A Lambda function. Its answer is the only trace of its run: without one, it is not known what became of it.

    :param reads: a client that reads; ``calls``: that invokes, and repeats no call.
    """

    once, shown_after = False, timedelta()

    def __init__(self, step: FunctionStep, reads: Any, calls: Any) -> None:
        self._step, self._reads, self._calls = step, reads, calls

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the version that the qualifier means now, and the digest of its code."""
        qualifier = pinned["version"] if pinned else self._step.qualifier
        with _there(f"The Lambda function {self._step.name}, {qualifier}"):
            found = self._reads.get_function_configuration(FunctionName=self._step.name, Qualifier=qualifier)
        return {"version": str(found["Version"]), "code": str(found["CodeSha256"])}

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        """Call it with the payload and the id of the step, by which it can tell a second call from the first."""
        event = {**self._step.payload, "interlock_step": id}

        def call() -> Seen:
            answer = self._calls.invoke(
                FunctionName=self._step.name,
                Qualifier=pinned["version"],
                InvocationType="RequestResponse",
                LogType="Tail",
                Payload=json.dumps(event).encode(),
            )
            said = answer["Payload"].read().decode(errors="replace")[:_SAID]
            if answer.get("FunctionError"):
                log = base64.b64decode(answer.get("LogResult") or "").decode(errors="replace")[-_SAID:]
                return Seen(ended=True, said=f"{said}\n{log}".strip(), reason=f"the function failed: {said}")
            return Seen(ended=True, said=said)

        return _begun(call, doubtful=True)

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        """Return nothing: Lambda does not tell what became of a call."""

    def stop(self, id: str, since: datetime) -> str:
        """Leave it alone: AWS ends it by its own time limit."""
        return ""


class Snapshot:
    """A snapshot of an RDS database instance, which its name makes one."""

    once, shown_after = True, timedelta()

    def __init__(self, step: SnapshotStep, rds: Any) -> None:
        self._step, self._rds = step, rds

    def pin(self, pinned: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return which instance has the name."""
        with _there(f"The RDS database instance {self._step.instance}"):
            (found,) = self._rds.describe_db_instances(DBInstanceIdentifier=self._step.instance)["DBInstances"]
        return {"instance": str(found["DBInstanceArn"]), "resource": str(found["DbiResourceId"])}

    def begin(self, id: str, pinned: Mapping[str, str]) -> Seen | None:
        """Create it, unless there is one of its name."""

        def create() -> Seen:
            with suppress(self._rds.exceptions.DBSnapshotAlreadyExistsFault):
                self._rds.create_db_snapshot(
                    DBSnapshotIdentifier=_snapshot(id), DBInstanceIdentifier=self._step.instance
                )
            return Seen(ended=False)

        return _begun(create)

    def look(self, id: str, pinned: Mapping[str, str], since: datetime) -> Seen | None:
        """Return the state of the snapshot, and whether it is of the instance that was frozen."""
        try:
            with _answered(f"look up the snapshot {_snapshot(id)}"):
                (one,) = self._rds.describe_db_snapshots(DBSnapshotIdentifier=_snapshot(id))["DBSnapshots"]
        except AssetMissing:
            return None
        state, of = str(one["Status"]), (one["DBInstanceIdentifier"], one.get("DbiResourceId"))
        said = f"snapshot {one['DBSnapshotArn']}: {state}"
        if of != (self._step.instance, pinned["resource"]):
            return Seen(ended=True, said=said, reason=f"the snapshot is of another instance: {of}")
        if state in ("available", "failed", "incompatible-restore", "incompatible-parameters"):
            return Seen(ended=True, said=said, reason="" if state == "available" else f"the snapshot is {state}")
        return Seen(ended=False, said=said)

    def stop(self, id: str, since: datetime) -> str:
        """Leave it alone: a snapshot changes nothing."""
        return ""


def _tag(id: str) -> str:
    return f"interlock:{id}"


def _comment(id: str) -> str:
    return f"interlock {id}"


def _snapshot(id: str) -> str:
    return f"interlock-{id}"


def _pin_document(ssm: Any, step: DocumentStep, kind: str, pinned: Mapping[str, str] | None) -> dict[str, str]:
    wanted = pinned["version"] if pinned else step.version
    version = {"DocumentVersion": wanted} if wanted else {}
    with _there(f"The Systems Manager document {step.name}"):
        found = ssm.describe_document(Name=step.name, **version)["Document"]
    if found["DocumentType"] != kind:
        raise AssetMissing(
            f"The document {step.name} is of the type {found['DocumentType']}, and not {kind}.",
            rule="a document with host is a Command document, and one without is an Automation (document, in the "
            "runbook of the service)",
            who="the service's team",
            next_step="correct the runbook, then trigger the release again",
        )
    return {"version": str(found["DocumentVersion"]), "sha256": str(found["Hash"])}


@contextmanager
def _there(what: str) -> Iterator[None]:
    """Say of what cannot be read that it is not there, or that there is no answer."""
    try:
        yield
    except ClientError as error:
        _refuse_passing(error, what)
        raise AssetMissing(
            f"{what} cannot be read: {error}",
            rule="what a step of a runbook uses is there when the plan is frozen (runbook in the service's YAML)",
            who="the service's team, or the owner of the connection",
            next_step="create it, or give the connection the right to read it; then trigger the release again",
        ) from error
    except BotoCoreError as error:
        raise TransientError(f"{what} cannot be read: {error}") from error


@contextmanager
def _answered(what: str) -> Iterator[None]:
    """Turn failures of reading into ours: not there, or no answer."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and "NotFound" in str(error.response["Error"]["Code"]):
            raise AssetMissing(f"Could not {what}: {error}") from error
        raise TransientError(f"Could not {what}: {error}") from error


def _begun(call: Callable[[], Seen], *, doubtful: bool = False) -> Seen | None:
    """Call AWS to begin something; return what came of it; none: it is not known whether the call was heard.

    :param doubtful: AWS would do it again. What is not known is then not tried again.
    :raises TransientError: it may be tried again.
    """
    try:
        return call()
    except ClientError as error:
        if not doubtful:
            _refuse_passing(error, "The step")
        known = _status(error) < _SERVER_ERROR
        return Seen(ended=True, reason=f"AWS refused it: {error}") if known else None
    except BotoCoreError as error:
        if isinstance(error, ParamValidationError) or (doubtful and isinstance(error, _NOT_SENT)):
            return Seen(ended=True, reason=f"AWS could not be asked: {error}")
        if not doubtful:
            raise TransientError(f"AWS could not be asked: {error}") from error
        return None


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR))


def _refuse_passing(error: ClientError, what: str) -> None:
    if _status(error) >= _SERVER_ERROR or error.response["Error"]["Code"] in _THROTTLED:
        raise TransientError(f"{what}: AWS did not answer: {error}") from error
