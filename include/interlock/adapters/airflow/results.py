"""Results of tasks that Airflow's XCom backend keeps elsewhere, such as large ones in S3.

Airflow's public API returns what is in its database: the result, or the backend's reference to it.
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

_REFERENCE = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


def parsed_result(value: Any) -> Any:
    """Return a result as the public API gives it: JSON in a text, or the text itself."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def is_reference(value: Any) -> bool:
    """Tell whether a result may stand for one that is elsewhere."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def stored_result(value: Any) -> Any:
    """Return the result that a reference of Airflow's XCom backend stands for; anything else as it is.

    The backend follows no reference to another place than its own. To be called where Airflow is configured: in its
    components, and in tasks.
    """
    if not is_reference(value):
        return value
    from airflow.sdk.execution_time.xcom import XCom  # not at the top: reads Airflow's configuration

    return XCom.deserialize_value(SimpleNamespace(value=value))
