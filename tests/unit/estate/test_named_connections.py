"""Connections that services name."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.adapters.catalogue.catalogue import load_catalogue
from interlock.estate.airflow.named_connections import faults_of
from interlock.installation.astro_settings import ConnectionEntry
from interlock.installation.named_connections import Named, named_by
from interlock.locations import CATALOGUE

SOURCE = Named("shop_source", "services/shop.yaml: source.connection", "source")
AWS = Named("company_aws", "services/shop.yaml: environments.production.aws", "aws")
SSH = Named("company_hosts", "services/shop.yaml: environments.production.ssh", "ssh")
GIT = ConnectionEntry(conn_id="shop_source", type="git", host="https://git.example.com/shop")


def nobody_to_ask(names: Sequence[str]) -> None:
    return None


def test_every_connection_of_a_service_is_named_with_its_place() -> None:
    named = list(named_by([load_catalogue(CATALOGUE).services["bike-shop"]]))
    assert {one.conn_id for one in named} == {
        "bike_shop_source",
        "interlock_aws",
        "interlock_hosts",
        "interlock_test_hosts",
    }
    assert named[0].place == "services/bike-shop.yaml: source.connection"


def test_what_the_file_or_the_environment_brings_is_there() -> None:
    hosts = ConnectionEntry(conn_id="company_hosts", uri="ssh://deploy@10.0.0.1")
    found = faults_of([SOURCE, AWS, SSH], [GIT, hosts], {"AIRFLOW_CONN_COMPANY_AWS": "{}"}, nobody_to_ask)
    assert found == ((), ())


def test_what_airflow_lacks_is_wrong_and_what_it_has_is_not() -> None:
    asked: list[Sequence[str]] = []

    def lacks(names: Sequence[str]) -> frozenset[str]:
        asked.append(names)
        return frozenset({"company_aws"})

    found = faults_of([SOURCE, AWS, AWS, SSH], [GIT], {}, lacks)
    assert asked == [["company_aws", "company_hosts"]]
    assert found.doubtful == ()
    assert found.wrong[0] == (
        "services/shop.yaml: environments.production.aws: there is no connection company_aws, neither in "
        "airflow_settings.yaml nor in Airflow. Next: add it to airflow_settings.yaml, or correct the name"
    )
    assert len(found.wrong) == 2


def test_where_airflow_cannot_be_asked_what_is_missing_is_doubtful() -> None:
    found = faults_of([AWS], [], {}, nobody_to_ask)
    assert found.wrong == ()
    assert found.doubtful[0].startswith("services/shop.yaml: environments.production.aws: airflow_settings.yaml has no")


def test_a_connection_that_cannot_be_what_it_is_named_for_is_wrong() -> None:
    entries = [
        ConnectionEntry(conn_id="shop_source", type="git"),
        ConnectionEntry(conn_id="company_aws", type="ssh"),
        ConnectionEntry(conn_id="company_hosts", type="http"),
    ]
    found = faults_of([SOURCE, AWS, SSH, SSH._replace(conn_id="company_aws")], entries, {}, nobody_to_ask)
    assert [sentence.partition("airflow_settings.yaml ")[2] for sentence in found.wrong] == [
        "has no conn_host, which is the repository's URL",
        "has the conn_type ssh; allowed: aws",
        "has the conn_type http; allowed: ssh or aws",
    ]
