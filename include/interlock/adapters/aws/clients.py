"""Clients of AWS from an Airflow connection, where no hook of Airflow's is at hand: outside tasks, too."""

from __future__ import annotations

from typing import Any


def aws_client(connection: Any, service: str, *, region: str | None = None) -> Any:
    """Make a boto3 client as the Amazon provider's hooks do: credentials, region, role and endpoint of a connection.

    :param connection: of type ``aws``.
    :param region: what counts if the connection names none.
    """
    from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

    settings = AwsConnectionWrapper(connection, region_name=region) if region else AwsConnectionWrapper(connection)
    session = BaseSessionFactory(conn=settings, region_name=settings.region_name).create_session()
    return session.client(
        service,
        endpoint_url=settings.get_service_endpoint_url(service),
        config=settings.botocore_config,
        verify=settings.verify,
    )
