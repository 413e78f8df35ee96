"""Questions to people hold data from outside: commit messages, summaries, comments."""

from __future__ import annotations

from include.interlock.domain.catalogue import Person
from include.interlock.stages.people import CLERK, Question, question

BEN = Person(user="ben", name="Ben Okafor", email="ben@example.com", role="operations")
DIGEST = "0" * 64


def test_no_field_of_a_question_is_ever_rendered_as_a_template() -> None:
    hostile = "{{ conn.interlock_hosts.password }}"
    asked = Question(task_id="ask", subject=hostile, body=hostile, options=["Approve"])
    assert not tuple(asked.template_fields)
    asked.render_template_fields(context={})
    assert (asked.subject, asked.body) == (hostile, hostile)


def test_a_question_names_the_digest_that_it_decides_on() -> None:
    asked = question("Release?", "The plan.", DIGEST, [BEN])
    assert DIGEST in asked["body"]


def test_a_question_is_assigned_to_its_people_by_user_name_and_to_the_clerk_who_closes_it() -> None:
    asked = question("Release?", "The plan.", DIGEST, [BEN])
    assert [user["id"] for user in asked["assigned_users"]] == ["ben", CLERK]
