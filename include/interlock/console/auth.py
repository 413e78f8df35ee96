"""Airflow's auth manager: FAB's, with release control on top.

``[core] auth_manager = include.interlock.console.auth.InterlockFabAuthManager``. Its name has to contain
``FabAuthManager``: Airflow brings the ``access_control`` of Dags into FAB's tables only if that setting does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.www.security.permissions import RESOURCE_DAG_RUN, RESOURCE_HITL_DETAIL, resource_name
from fastapi import HTTPException, status

from .control import BREAK_GLASS, goes_round, is_controlled, refusal

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.providers.fab.auth_manager.models import User

log = logging.getLogger(__name__)

EDITING_NOT_NEEDED = {("PUT", DagAccessEntity.HITL_DETAIL), ("POST", DagAccessEntity.RUN)}
"""What FAB grants only with the right to edit the Dag, which is the right to pause it."""


class InterlockFabAuthManager(FabAuthManager):
    """FAB's auth manager that knows people by user name and lets nobody go round a release's decisions."""

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Tell whether a question was asked of this user: by user name, or by FAB's numeric id."""
        name = getattr(user, "username", None)  # the public user has none
        return any(user.get_id() == one if one.isdigit() else name == one for one in assigned_users)

    def is_authorized_dag(
        self,
        *,
        method: ResourceMethod,
        user: User,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        """Tell whether a user may do this to a Dag; explain what release control refuses.

        :raises HTTPException: 403 with the reason, for those whose permissions alone would have sufficed.
        """
        if not self._is_permitted(method, user, access_entity, details):
            return False
        dag_id = details.id if details else None
        entity = access_entity.value if access_entity else None
        if dag_id and goes_round(method, entity, dag_id) and not self._breaks_glass(user):
            log.warning("Refused to %s: %s %s of %s", user.get_name(), method, entity or "DAG", dag_id)
            raise HTTPException(status.HTTP_403_FORBIDDEN, refusal(entity, dag_id))
        return True

    def _breaks_glass(self, user: User) -> bool:
        return any(role.name == BREAK_GLASS for role in user.roles)

    def _is_permitted(
        self,
        method: ResourceMethod,
        user: User,
        access_entity: DagAccessEntity | None,
        details: DagDetails | None,
    ) -> bool:
        """Ask FAB; who may read a release's Dag need not be able to edit it in order to answer it or to trigger it."""
        if details and is_controlled(details.id) and (method, access_entity) in EDITING_NOT_NEEDED:
            reads = self._is_authorized_dag(method="GET", details=details, user=user)
            return bool(reads and self._has(method, access_entity, details, user))
        return bool(super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details))

    def _has(
        self, method: ResourceMethod, access_entity: DagAccessEntity | None, details: DagDetails, user: User
    ) -> bool:
        resources = [RESOURCE_HITL_DETAIL]
        if access_entity is DagAccessEntity.RUN:
            resources = [RESOURCE_DAG_RUN, resource_name(details.id, RESOURCE_DAG_RUN)]
        return any(self._is_authorized(method=method, resource_type=one, user=user) for one in resources)
