"""Airflow's auth manager: FAB's, with release control on top.

``[core] auth_manager = interlock.console.auth.manager.InterlockFabAuthManager``. Its name has to contain
``FabAuthManager``: Airflow brings the ``access_control`` of Dags into FAB's tables only if that setting does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.configuration import conf
from airflow.providers.fab.auth_manager.fab_auth_manager import CACHE_TTL, FabAuthManager
from airflow.providers.fab.www.security.permissions import RESOURCE_DAG_RUN, RESOURCE_HITL_DETAIL, resource_name
from cachetools import TTLCache
from fastapi import HTTPException, status

from interlock.console.control.current_request import CurrentRequest, under_way
from interlock.console.control.guard import asset_of
from interlock.console.control.lookups import dags_of_asset, open_questions
from interlock.console.control.own_dags import made
from interlock.console.control.refusal import bench
from interlock.console.control.routes import RequestKind
from interlock.console.control.rules import BREAK_GLASS, NEVER, is_controlled, is_refused, refusal
from interlock.console.record import witness
from interlock.console.record.witness import is_answer
from interlock.domain.dag_names import WATCHMEN

from . import accounts
from .accounts import is_vouched_for
from .assignments import refusal_of_stranger
from .guesses import guesses

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.resource_details import AssetDetails, DagDetails
    from airflow.providers.fab.auth_manager.models import User

EDITING_NOT_NEEDED = {("PUT", DagAccessEntity.HITL_DETAIL), ("POST", DagAccessEntity.RUN)}
"""What FAB grants only with the right to edit the Dag, which is the right to pause it."""


NOT_YET = (
    "Airflow has not loaded the Dag {dag_id} yet. It loads new files of the catalogue within about a minute. "
    "Next: try again in a minute. If the Dag is still missing, see the Dag import errors."
)
MAX_CACHE_SECONDS = 3
"""Seconds for which an account and its permissions are not read again. FAB keeps them for 30: for so long, a new Dag
would answer 403 to its release managers, and a role that was taken away would still count."""


class InterlockFabAuthManager(FabAuthManager):
    """FAB's auth manager that knows people by user name and refuses what would bypass the decisions on a release."""

    cache: TTLCache[Any, Any] = TTLCache(maxsize=1024, ttl=min(CACHE_TTL, MAX_CACHE_SECONDS))

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """Tell whether a question was asked of this user: by user name, or by FAB's numeric id.

        Airflow calls this before it stores an answer; so the answer is recorded here.

        :raises HTTPException: 422: it would not count; 503: it cannot be recorded; 403: the question is for
            another person, or the account is in doubt.
        """
        is_user = partial(_is_called, user)
        was_asked = any(map(is_user, assigned_users))
        asked = under_way()
        dag_id = asked.names.get("dag_id") if isinstance(asked, CurrentRequest) else None
        if isinstance(asked, CurrentRequest) and dag_id is not None and is_controlled(dag_id):
            if not was_asked:
                bench().refused(user.get_name(), asked, DagAccessEntity.HITL_DETAIL.value, dag_id, "assignment")
                if is_answer(asked):
                    questions = open_questions(dag_id, asked.names["dag_run_id"])
                    address = str(conf.get("api", "base_url", fallback="") or "")
                    why = refusal_of_stranger(asked, is_user, questions, address)
                    raise HTTPException(status.HTTP_403_FORBIDDEN, why)
            elif is_answer(asked):
                self._refuse_doubted(user, asked, DagAccessEntity.HITL_DETAIL.value, dag_id)
                if why := witness.does_not_count(user.get_name(), asked):
                    raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, why)
                if why := witness.objection(user.get_name(), asked):
                    raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, why)
        return was_asked

    def create_token(self, headers: dict[str, str], body: dict[str, Any]) -> User | None:
        """Log a user in at the API, unless too many of their recent log-ins failed.

        :raises HTTPException: 429: they did.
        """
        known, ask = guesses(), partial(super().create_token, headers, body)
        return known.log_in(str(body.get("username") or ""), ask) if known else ask()

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
        permitted = self._is_permitted(method, user, access_entity, details)
        dag_id = details.id if details else None
        if dag_id is None or not is_controlled(dag_id):
            return permitted
        asked = under_way()
        entity = access_entity.value if access_entity else None
        if not permitted:
            if (
                isinstance(asked, CurrentRequest)
                and asked.request_kind is RequestKind.TRIGGER
                and not made().is_there(dag_id)
            ):
                raise HTTPException(status.HTTP_404_NOT_FOUND, NOT_YET.format(dag_id=dag_id))
            if isinstance(asked, CurrentRequest):
                bench().refused(user.get_name(), asked, entity, dag_id, "role")
            return False
        if not is_refused(method, entity, dag_id, asked):
            if (
                isinstance(asked, CurrentRequest)
                and asked.request_kind is RequestKind.TRIGGER
                and is_vouched_for(asked)
            ):
                self._refuse_doubted(user, asked, entity, dag_id)
            return True
        if asked is not None and not isinstance(asked, CurrentRequest):
            return False  # only a question; nothing is attempted
        self._refuse_or_break(user, asked, entity, dag_id)
        return True

    def is_authorized_asset(self, *, method: ResourceMethod, user: User, details: AssetDetails | None = None) -> bool:
        """Tell whether a user may do this to an asset; only releases change the assets of releases."""
        asked = under_way()
        permitted = bool(super().is_authorized_asset(method=method, user=user, details=details))
        if permitted and isinstance(asked, CurrentRequest) and asked.request_kind in NEVER:
            for dag_id in sorted(filter(is_controlled, dags_of_asset(asset_of(asked)))):
                self._refuse_or_break(user, asked, "ASSET", dag_id)
        return permitted

    def get_authorized_dag_ids(self, *, user: User, method: ResourceMethod = "GET", **more: Any) -> set[str]:
        """Return the Dags to which a user may do this; a pause by a pattern leaves out Dags that monitor releases."""
        dag_ids: set[str] = super().get_authorized_dag_ids(user=user, method=method, **more)
        asked = under_way()
        if method == "GET" or (isinstance(asked, CurrentRequest) and asked.unpauses):
            return dag_ids
        return dag_ids - WATCHMEN

    def _refuse_doubted(self, user: User, asked: CurrentRequest, entity: str | None, dag_id: str) -> None:
        """Refuse an account in doubt."""
        if why := accounts.objection(user.get_name(), asked):
            bench().refused(user.get_name(), asked, entity, dag_id, "account")
            raise HTTPException(status.HTTP_403_FORBIDDEN, why)

    def _refuse_or_break(self, user: User, asked: CurrentRequest | None, entity: str | None, dag_id: str) -> None:
        """Refuse a request, unless its user has break-glass access."""
        if asked is None:
            why = f"{refusal(entity, dag_id)} The request did not pass Interlock's plugin, which is not loaded."
        else:
            why = bench().objection(user.get_name(), asked, entity, dag_id, may_break=_breaks_glass(user))
        if why:
            raise HTTPException(status.HTTP_403_FORBIDDEN, why)

    def _is_permitted(
        self,
        method: ResourceMethod,
        user: User,
        access_entity: DagAccessEntity | None,
        details: DagDetails | None,
    ) -> bool:
        """Ask FAB; to answer or trigger a Dag under control, a user must be able to read it, but not to edit it."""
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


def _is_called(user: User, assigned: str) -> bool:
    """Tell whether an assignment means a user: by user name, or by FAB's numeric id."""
    name = getattr(user, "username", None)  # the public user has none
    return bool(user.get_id() == assigned if assigned.isdigit() else name == assigned)


def _breaks_glass(user: User) -> bool:
    return any(role.name == BREAK_GLASS for role in getattr(user, "roles", ()))
