"""Questions to people, and their answers as Airflow recorded them.

A question is a human-in-the-loop request (:class:`Question`). Answers are read from Airflow's API, never from the state
or the result of a task, which an operator of Airflow can edit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import TriggerRule, XComArg, chain
from airflow.sdk.exceptions import TaskAwaitingInput

from interlock.adapters.airflow.rest_api import Answer
from interlock.adapters.signing.witness import only_witnessed
from interlock.adapters.templates import escape, visible
from interlock.domain.board import decision, seats
from interlock.domain.board.accounts import CLERK
from interlock.domain.board.decision import ABSTAIN, APPROVE, REJECT
from interlock.domain.board.forms import CONDITIONS, AnswerForm, CaseForm
from interlock.domain.board.voting import VotingRule
from interlock.domain.catalogue import BoardBook, Person
from interlock.domain.errors import PolicyViolation
from interlock.domain.ledger.chain import Entry
from interlock.domain.ledger.kinds import FINDING
from interlock.domain.ledger.witness import GivenAnswer, is_witnessed, question_digest
from interlock.domain.permits.withdrawal import refuse_called_off
from interlock.domain.records import Vote
from interlock.domain.trigger_form import fields_of
from interlock.stages.runtime import resources
from interlock.stages.runtime.evidence import chain_entries, record, refuse_other_words
from interlock.stages.runtime.requests import form_params
from interlock.stages.runtime.taskflow import reasons_kept, this_run

from .mails import QuestionMail

if TYPE_CHECKING:
    from airflow.sdk import Context

ANSWER = "interlock_answer"
"""The key of the answer, in words, in a question's context."""
LABEL = f"{{{{ task.assigned_users[0]['name'] }}}}{{% if {ANSWER} is defined %}}: {{{{ {ANSWER} }}}}{{% endif %}}"
"""The name of a question on Airflow's pages: the person who is asked, and the answer."""
BINDING = (
    "You answer for exactly this, by its SHA-256 digest: `{digest}`. "
    "Whatever changes in it changes the digest, and your answer is void."
)
"""The end of each question: the only place that names the digest."""

_BINDING_LENGTH = len(BINDING.format(digest="0" * 64))
ANSWER_PARAMS = form_params(fields_of(AnswerForm))
"""The fields beside the answer."""
CASE_PARAMS = form_params(fields_of(CaseForm))
"""The fields beside the result of a test case."""
CASE_LABEL = f"{{{{ task.subject[:120] }}}}{{% if {ANSWER} is defined %}}: {{{{ {ANSWER} }}}}{{% endif %}}"
"""The name of a test case on Airflow's pages: what is tested, and the result."""


class Question(HITLOperator):
    """A human-in-the-loop request whose text is data.

    Airflow would render subject and body as templates. They contain commit messages and input of people, and a template
    in them could read Airflow's connections. So no field is a template.

    A worker may die before it has asked, so the task has retries. A question is asked only once: when Airflow runs an
    operator again, it deletes the answer to its request, so an existing request is left unchanged.

    It does not use Airflow's ``defaults``: Airflow's form would show these in blue and all other answers in grey. The
    board's clerk closes questions without an answer; its answers never count.

    :param silence: the choice with which the clerk closes the question.
    :param answer_by: the deadline as ISO 8601, for the mail; default: the end of ``response_timeout``.
    :param mailed: whether the people are told of this question by e-mail.
    """

    template_fields = ()

    def __init__(self, *, silence: str, answer_by: str | None = None, mailed: bool = True, **kwargs: Any) -> None:
        super().__init__(notifiers=[QuestionMail()] if mailed else [], **kwargs)
        self.silence = silence
        self.answer_by = answer_by

    def execute(self, context: Context) -> Any:
        """Ask. A later try waits for the answer to the existing request, or ends if it was answered."""
        ti: Any = context["ti"]
        assigned = [user["id"] for user in self.assigned_users or ()]
        with reasons_kept():
            entries = chain_entries()
            refuse_called_off(entries)
            refuse_other_words(self.task_id, [(self.subject, self.body or "", assigned)], entries)
        if ti.try_number > 1 and (asked := _request(self.task_id, ti.map_index)):
            if asked.answered:
                self.log.info("Asked and answered in an earlier try.")
                return None
            left = self._time_left(asked)
            if left is not None and left <= timedelta(0):
                return self._close(asked)
            for notifier in self.notifiers:
                notifier(context)
            # This does not change the request, and continues at once if the answer has come meanwhile.
            raise TaskAwaitingInput(method_name="execute_complete", timeout=left)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """End, and show the answer on Airflow's pages. Close a question without an answer."""
        said: Any = context
        said[ANSWER] = _in_words(event)
        if event.get("error_type") != "timeout":
            return super().execute_complete(context, event)
        ti: Any = context["ti"]
        with reasons_kept():
            asked = _request(self.task_id, ti.map_index)
            return self._close(asked) if asked and not asked.answered else None

    def validate_params_input(self, params_input: Mapping[str, Any]) -> None:
        """Accept any form: answers through the API may leave fields out, and answers are read from the record."""

    def _time_left(self, asked: Answer) -> timedelta | None:
        timeout: timedelta | None = self.response_timeout
        if timeout is None or asked.asked_at is None:
            return timeout
        return asked.asked_at + timeout - datetime.now(UTC)

    def _close(self, asked: Answer) -> None:
        with resources.airflow_api(resources.BOARD_CLERK) as api:
            comment = closed_because("there was no answer in time")
            api.close_question(*this_run(), asked, choice=self.silence, comment=comment)


def closed_because(why: str) -> str:
    """Return the comment with which the board's clerk closes a question."""
    return f"Closed by {CLERK}: {why}."


def _in_words(event: Mapping[str, Any]) -> str:
    """Return the answer in an event of Airflow, in words."""
    by = (event.get("responded_by_user") or {}).get("name")
    if by is None:
        return "no answer"
    return "closed" if by == CLERK else ", ".join(event.get("chosen_options") or ())


def _request(task_id: str, map_index: int) -> Answer | None:
    """Return the existing request of a task of this run."""
    dag_id, run_id = this_run()
    with resources.airflow_api() as api:
        asked = api.answers(dag_id, run_id, task_id)
    return next((request for request in asked if request.map_index == map_index), None)


def question(
    subject: str,
    body: str,
    digest: str,
    people: Sequence[Person],
    *,
    options: Sequence[str] = (),
    answer_by: datetime | None = None,
) -> dict[str, Any]:
    """Describe a question for :func:`ask`. Its body ends with the digest that the answer is bound to.

    :param people: the people who may answer; a single answer is enough.
    :param options: the choices, if they differ between the questions of a task.
    :param answer_by: the deadline, if it is earlier than the task's own.
    """
    whose = " or ".join(escape(person.name) for person in people)
    asked_of = (
        f"This question is for **{whose}**. Answers from other people are refused. "
        "Your own open questions are on Airflow's page *Home*."
    )
    return {
        **({"answer_by": answer_by.isoformat()} if answer_by else {}),
        **({"options": list(options)} if options else {}),
        "subject": visible(subject),
        "body": f"{asked_of}\n\n{body.rstrip()}\n\n{BINDING.format(digest=digest)}",
        "assigned_users": [
            *({"id": person.user, "name": person.name} for person in people),
            {"id": CLERK, "name": "Board clerk (closes ballots that are no longer needed)"},
        ],
    }


def ask(
    questions: XComArg,
    *,
    task_id: str,
    title: str,
    options: Sequence[str] = (),
    default: str,
    within: timedelta,
    doc_md: str,
    conditions: bool = False,
    **options_of_task: Any,
) -> EmptyOperator:
    """Ask each question of a list in its own task instance; return the task that follows all of them.

    The state of a question's task does not matter: answers are read from Airflow's record. (Airflow fails a question
    that is answered within the second in which it was asked, although it recorded the answer. The retry finds it.)

    :param options: the choices, the usual one first; empty if each question has its own.
    :param default: the choice with which a question without an answer is closed; it never counts as an answer.
    :param conditions: whether the form has a field for conditions.
    :param options_of_task: replace those of the task, such as ``params``.
    """
    fields = {name: field for name, field in ANSWER_PARAMS.items() if conditions or name != CONDITIONS}
    asked = Question.partial(
        task_id=task_id,
        task_display_name=title,
        **({"options": list(options)} if options else {}),
        silence=default,
        response_timeout=within,
        retries=4,
        retry_delay=timedelta(seconds=1),  # soon: people wait
        execution_timeout=None,
        doc_md=doc_md,
        **{"params": fields, "map_index_template": LABEL, **options_of_task},
    ).expand_kwargs(questions)
    over = EmptyOperator(
        task_id=f"{task_id}_over",
        task_display_name=f"{title}: closed",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md="Runs when all questions are answered or have expired. The next task reads the answers from Airflow.",
    )
    chain(asked, over)
    return over


def ask_board(ballots: XComArg, deadline: timedelta | None, *, doc_md: str) -> EmptyOperator | None:
    """Ask each member of a board for a vote; return the task that follows all ballots.

    :param deadline: the longest that the board may take; None: no vote is ever required, so there is no task.
    """
    if deadline is None:
        return None
    return ask(
        ballots,
        task_id="cast_ballot",
        title="Cast a ballot (board member)",
        options=[APPROVE, REJECT, ABSTAIN],
        default=ABSTAIN,
        conditions=True,
        within=deadline * 2,  # the decision closes ballots in time; this only matters after an outage
        doc_md=doc_md,
    )


def ballots(
    rule: VotingRule,
    book: BoardBook,
    subject: str,
    body: str,
    digest: str,
    *,
    until: datetime,
    requester: str,
    asked_by: Sequence[str],
    excluded: Sequence[str],
) -> list[dict[str, Any]]:
    """Describe a ballot for each member of a board who may vote, or for their delegate.

    :param requester: the account that triggered the run; ``asked_by``: the people behind it.
    :param excluded: further people who had a hand in it and do not vote.
    :raises PolicyViolation: too few members may vote.
    """
    barred = {requester, *asked_by, *excluded}
    decision.eligible_members(rule, requester=requester, excluded=barred)
    careful = seats.careful_seats(rule, asked_by=asked_by, excluded=excluded)
    to_cast = seats.ballots(rule, barred=barred, since=datetime.now(UTC), until=until, careful=careful)
    return [question(subject, body, digest, persons(book, ballot.voters), answer_by=until) for ballot in to_cast]


def votes_on(
    task_id: str, digest: str, *, run: tuple[str, str] | None = None, entries: Sequence[Entry] | None = None
) -> tuple[Vote, ...]:
    """Read from Airflow the answers to those questions of a task that end with this digest.

    :param run: Dag and run that asked; default: the current run.
    :param entries: the verified chain of that run.
    :raises PolicyViolation: an answer was not submitted through Airflow's API, which is also a finding.
    """
    return votes_on_each(task_id, [digest], run=run, entries=entries)[digest]


def votes_on_each(
    task_id: str,
    digests: Collection[str],
    *,
    run: tuple[str, str] | None = None,
    entries: Sequence[Entry] | None = None,
) -> dict[str, tuple[Vote, ...]]:
    """Read from Airflow the answers to the questions of a task, by the digest with which they end.

    The parameters are those of :func:`votes_on`.
    """
    dag_id, run_id = run or this_run()
    with resources.airflow_api() as api:
        answers = api.answers(dag_id, run_id, task_id)
    endings = {BINDING.format(digest=digest): digest for digest in digests}
    given: dict[str, list[Answer]] = {digest: [] for digest in digests}
    for answer in answers:
        bound = endings.get(answer.body.rstrip()[-_BINDING_LENGTH:])
        if answer.answered and bound is not None:
            given[bound].append(answer)
    of_people = [one for each in given.values() for one in each if one.user]
    if of_people:
        known = chain_entries() if entries is None else entries
        refuse_other_words(task_id, [(one.subject, one.body, one.assigned) for one in of_people], known)
        witnessed = only_witnessed(known, resources.witness_key())
        for digest, each in given.items():
            _refuse_written(each, witnessed, digest)
    return {digest: tuple(answer.vote() for answer in each) for digest, each in given.items()}


def _refuse_written(answers: Sequence[Answer], entries: Sequence[Entry], digest: str) -> None:
    """Refuse answers of people that the ledger did not record when they were submitted."""
    said = [(_given(answer), answer.at) for answer in answers if answer.user is not None]
    for written in [one for one, at in said if not is_witnessed(one, at, entries, digest=digest)]:
        what = f"{written} was not submitted through Airflow's API: it exists only in Airflow's database."
        record(FINDING, {"what": what}, seal=True)
        raise PolicyViolation(
            what,
            rule="an answer counts only if the ledger recorded it when it was submitted",
            who="this cannot be changed: the finding stays in the ledger",
            next_step="have an auditor find out who wrote to Airflow's database, then trigger the release again",
        )


def _given(answer: Answer) -> GivenAnswer:
    return GivenAnswer(
        user=answer.user or "",
        task_id=answer.task_id,
        map_index=answer.map_index,
        choice=answer.choice or "",
        comment=answer.comment,
        conditions=answer.conditions,
        evidence=answer.evidence,
        step=answer.step,
        defect=answer.defect,
        question=question_digest(answer.subject, answer.body, answer.assigned),
    )


def persons(board: BoardBook, users: Sequence[str]) -> list[Person]:
    """Return the people of the board book with these user names, in this order."""
    return [board.person(user) for user in users]
