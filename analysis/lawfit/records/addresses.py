"""Tracking URIs: of which kind they are, and how they are shown."""

import re
from urllib.parse import urlsplit

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Kinds of databases that MLflow writes to."""

LOGIN = re.compile(r"(?<=//)(?:[^/?#]*|[^/@:]*:[^@]*)@")
SECRET = re.compile(r"(?i)(?<=[?&;])[^=&;#]*(?:password|passwd|pwd|token|secret)[^=&;#]*=[^&;#]*[&;]?")
"""Part of a query."""


def kind(uri: str) -> str:
    """Scheme of a URI without its driver, "postgresql" of "postgresql+psycopg2://…"; empty for a path."""
    return urlsplit(uri).scheme.split("+")[0]


def shown(uri: str) -> str:
    """The URI without user, password and other secrets, fit for a screen and for records."""
    return SECRET.sub("", LOGIN.sub("", uri)).rstrip("?&;")


def without_secrets(text: str, uri: str) -> str:
    """A library's words about a URI, without what `shown` leaves out of it."""
    for secret in (*LOGIN.findall(uri), *SECRET.findall(uri)):
        text = text.replace(secret, "")
    return text.replace(uri, shown(uri))
