"""All that Apprise knows, such as Microsoft Teams, through a connection of Airflow's Apprise provider.

The provider's own ``notify`` does not say whether a message was delivered; Interlock asks Apprise itself.
"""

from __future__ import annotations

from interlock.domain.errors import ReleaseError

from .message import Message, shortened


def post(connection: str, message: Message) -> None:
    """Say something by all services of a connection.

    :raises ReleaseError: the connection is of no use, or one of its services did not take the message.
    """
    import apprise  # not at the top: it looks for its plug-ins, which takes long
    from airflow.providers.apprise.hooks.apprise import AppriseHook

    hook, services = AppriseHook(connection), apprise.Apprise()
    found = hook.get_connection(connection)
    try:
        hook.set_config_from_conn(found, services)
    except (KeyError, TypeError, ValueError) as error:  # its text may hold addresses with tokens in them
        raise _of_no_use(connection) from error
    if not len(services):
        raise _of_no_use(connection)
    title = shortened(message.title)
    lines = [f"{line.plain} {line.link}".rstrip() for line in message.shown]
    if message.thread is not None:
        lines += [f"{message.thread.plain} {message.thread.link}".rstrip()]
    delivered = True
    for service in services:
        # Lines are inert in Markdown, too. As text, Apprise would escape the links of services that read Markdown.
        marked = service.notify_format == apprise.NotifyFormat.MARKDOWN
        form = apprise.NotifyFormat.MARKDOWN if marked else apprise.NotifyFormat.TEXT
        one = apprise.Apprise()
        one.add(service)
        body = ("\n\n" if marked else "\n").join(lines) or title
        delivered = bool(one.notify(title=title, body=body, body_format=form)) and delivered
    if not delivered:
        raise ReleaseError(
            f"A service of the connection {connection} did not take a message",
            who="the platform engineer",
            next_step="read the log of the task, which names the service",
        )


def _of_no_use(connection: str) -> ReleaseError:
    return ReleaseError(
        f"The connection {connection} names no service that Apprise knows",
        rule='its extra is {"config": {"path": "<an address of Apprise>"}}, or a list of such',
        who="the platform engineer",
        next_step="correct the connection",
    )
