"""Work items of Azure DevOps: Services and Server."""

from __future__ import annotations

from pydantic import Field

from interlock.domain.catalogue.outside.tickets import TicketSystem

from .reader import Found, Said, Text, by_state, number_of
from .site import Site, quoted

_FIELDS = "System.Title,System.State,System.WorkItemType,System.Parent,System.Tags,System.IterationPath"


class _Fields(Said):
    title: Text = Field(alias="System.Title")
    state: Text = Field(alias="System.State")
    type: Text = Field(alias="System.WorkItemType")
    parent: int | None = Field(None, alias="System.Parent")
    tags: Text = Field("", alias="System.Tags")
    iteration: Text = Field("", alias="System.IterationPath")


class _WorkItem(Said):
    id: int
    fields: _Fields


class AzureDevOps:
    """Azure DevOps. The token needs the scope *Work items (read)*.

    A work item has no version: it belongs to those that its tags name, and to the last part of its iteration.

    :param site: of a connection with host: ``https://dev.azure.com/<organisation>``; password: a personal access token.
    """

    def __init__(self, site: Site, system: TicketSystem) -> None:
        self._site, self._system = site, system

    def read(self, key: str, project: str) -> Found | None:
        """Return a work item of a project."""
        path = f"/{quoted(project)}/_apis/wit/workitems/{number_of(key)}"
        item = self._site.get(_WorkItem, path, query={"api-version": "7.1", "fields": _FIELDS})
        if item is None:
            return None
        told = item.fields
        tags = tuple(tag for one in told.tags.split(";") if (tag := one.strip()))
        iteration = told.iteration.rpartition("\\")
        return Found(
            title=told.title,
            status=told.state,
            type=told.type,
            parent=f"#{told.parent}" if told.parent else "",
            fix_versions=(*tags, *([iteration[2]] if iteration[1] else [])),
            labels=tags,
            approved=by_state(self._system.approved, told.state, tags),
            link=f"{self._system.site or self._site.url}/{quoted(project)}/_workitems/edit/{item.id}",
        )
