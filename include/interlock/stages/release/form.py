"""The trigger form of a release Dag: the domain's fields as Airflow's params."""

from __future__ import annotations

from airflow.sdk import Param

from interlock.domain.catalogue import BoardBook, Policy, Service
from interlock.domain.change.request import form_fields


def release_params(policy: Policy, book: BoardBook, service: Service) -> dict[str, Param]:
    """Return the params of a release Dag, in the order of the form; a field without a default must be filled in."""
    params = {}
    for name, schema in form_fields(policy, book, service).items():
        rules = {key: value for key, value in schema.items() if key not in ("default", "description")}
        described = {"description": schema.get("description")}
        params[name] = (
            Param(schema["default"], **described, **rules) if "default" in schema else Param(**described, **rules)
        )
    return params
