"""The messages between a server and an app: a body read and given again, an answer with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping

from interlock.console.control.current_request import Message, Receive, Send


async def read_body(receive: Receive, largest: int) -> bytes | None:
    """Return the body, or the beginning of one that is too large; None if the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > largest:
            return bytes(body)


async def body_within(receive: Receive, send: Send, largest: int, what: str) -> bytes | None:
    """Return the body; None if the client has gone, or if it is too large, which the client is told.

    :param what: the kind of request that has this limit: ``A request that may name Dags``.
    """
    body = await read_body(receive, largest)
    if body is not None and len(body) > largest:
        await answer(send, 413, f"{what} must not have more than {largest} bytes.")
        return None
    return body


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body again, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def answer(send: Send, status: int, why: str) -> None:
    """Answer a request with the reason why it goes no further."""
    await answer_with(send, status, {"detail": why})


async def answer_with(send: Send, status: int, content: Mapping[str, str]) -> None:
    """Answer a request with JSON."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
