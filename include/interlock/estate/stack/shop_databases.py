"""The databases of the bike shop: one for each environment, with a login of its own that opens no other."""

from __future__ import annotations

from contextlib import closing

from interlock.adapters.ledger.database import make_database, make_role
from interlock.adapters.private_files import secret
from interlock.estate.settings import LOOPBACK, HostEnvironment, Settings

from . import postgres

ENVIRONMENTS: tuple[HostEnvironment, ...] = ("test", "production")
BACKUP, READER = "bike_shop_backup", "bike_shop_reader"
"""Who only reads: production, for the copies that test gets; and test, for the comparison of its rows."""


def database_of(environment: HostEnvironment) -> str:
    """Return the name of an environment's database, and of the login of its hosts."""
    return f"bike_shop_{environment}"


def make_shop_databases(settings: Settings) -> None:
    """Make the databases and their logins; what is in them stays."""
    with closing(postgres.connect(settings)) as connection, connection.cursor() as cursor:
        for environment, guest in zip(ENVIRONMENTS, (READER, BACKUP), strict=True):
            name = database_of(environment)
            for role in (name, guest):
                make_role(cursor, role, shop_password(settings, role))
            make_database(cursor, name, name, guest)
            cursor.execute(f"GRANT pg_read_all_data TO {guest}")


def shop_password(settings: Settings, role: str) -> str:
    """Return the password of one of these logins."""
    return secret(postgres.secrets_folder(settings) / f"postgres_{role}")


def shop_urls(settings: Settings, environment: HostEnvironment) -> dict[str, str]:
    """Return what the hosts of an environment know: their database, and on test, how to read production's."""
    own = database_of(environment)
    logins = {"database": (own, own)}
    if environment == "test":
        logins["backup"] = (BACKUP, database_of("production"))
    return {
        key: f"postgresql://{role}:{shop_password(settings, role)}@{LOOPBACK}:{settings.postgres_port}/{database}"
        for key, (role, database) in logins.items()
    }
