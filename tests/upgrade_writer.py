"""Begin a release with an earlier version of Interlock, up to the vote of its board; run with that version on the path.

It is given a folder with a PostgreSQL that runs, and prints what tasks of that version left as results.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

from interlock.adapters.catalogue.catalogue import load_service
from interlock.adapters.ledger.ledger import open_ledger
from interlock.adapters.signing.signing import load_signer
from interlock.domain.canonical import sha256_of
from interlock.domain.catalogue import ChangeType
from interlock.domain.change.effective import bound_to
from interlock.domain.ledger.chain import release_chain
from interlock.domain.ledger.kinds import ANSWER_GIVEN, RUN_ASKED
from interlock.domain.ledger.witness import AskedRun, GivenAnswer
from interlock.estate.settings import Settings
from interlock.estate.stack import postgres
from tests.factories import releases
from tests.integration.ledger_server import ledger_connection, witness_connection
from tests.witness import asked_payload, digest_of, given_payload, worded_payload

TASK, RUN = "rollout.cast_ballot", ("release_bike_shop", "manual__upgrade")


def write(settings: Settings, key: str, catalogue: Path, now: datetime) -> dict[str, object]:
    """Leave a release that waits for its board; return its results by task."""
    chain, signer = release_chain(*RUN), load_signer(key)
    in_force = bound_to(load_service(catalogue, "bike-shop").of("bike-shop"), ChangeType.NORMAL)
    report = releases.quality()
    rollout = releases.rollout(
        policy_digest=in_force.digest, quality_digest=sha256_of(report), decide_by=now + timedelta(days=2)
    )
    results = {
        ("policy.resolve_policy", "policy.resolved"): in_force,
        ("planning.plan_release", "plan.made"): releases.plan(),
        ("design.check_assets", "assets.checked"): releases.assets(),
        ("build.build_artifact", "artifact.built"): releases.artifact(),
        ("quality.judge_quality", "quality.judged"): report,
        ("acceptance.decide_acceptance", "acceptance.decided"): releases.decision("acceptance"),
        ("rollout.freeze_plan", "rollout.frozen"): rollout,
    }
    asked = AskedRun(dag_id=RUN[0], run_id=RUN[1], user="rita", conf=sha256_of({}))
    question = {
        "subject": "Vote",
        "body": f"The plan.\n\nDigest: `{rollout.digest}`",
        "assigned_users": [{"id": "ben", "name": "Ben"}],
    }
    given = GivenAnswer(
        user="ben", task_id=TASK, map_index=0, choice="Approve", comment="", question=digest_of(question)
    )
    with open_ledger(witness_connection(settings)) as witness, open_ledger(ledger_connection(settings)) as ledger:
        witness.append(chain, RUN_ASKED, asked_payload(asked, now), actor="rita", key=asked.key)
        for (task, kind), result in results.items():
            payload = {**result.to_xcom(), **({"digest": rollout.digest} if result is rollout else {})}
            entry = ledger.append(chain, kind, payload, actor=f"{RUN[0]}/{task}", key=f"{kind}/{task}")
        ledger.sign_head(chain, signer, seals=entry)
        worded = worded_payload(chain, TASK, question)
        ledger.append(chain, "question.worded", worded, actor="a task", key="question.worded/1")
        told = given_payload(chain, given, now)
        witness.append(chain, ANSWER_GIVEN, told, actor="ben", key="answer.given/ben")
    return {
        "results": {task: result.to_xcom() for (task, _), result in results.items()},
        "digests": {"plan": rollout.digest, "quality": sha256_of(report), "policy": in_force.digest},
    }


if __name__ == "__main__":
    state, port, key, catalogue, at = sys.argv[1:]
    settings = Settings(state=Path(state), postgres_port=int(port))
    postgres.make_databases(settings)
    postgres.migrate_ledger(settings)
    print(f"RESULT{json.dumps(write(settings, key, Path(catalogue), datetime.fromisoformat(at)))}")
