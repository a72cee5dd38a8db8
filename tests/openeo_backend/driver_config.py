"""Configuration of the openEO driver under test: basic auth with one user, and OIDC where issuers are named."""

import os

from openeo_driver.config import OpenEoBackendConfig
from openeo_driver.urlsigning import UrlSigner
from openeo_driver.users.oidc import OidcProvider

PEOPLE = {"id": "people", "grant_types": ["urn:ietf:params:oauth:grant-type:device_code+pkce", "refresh_token"]}


def _providers() -> list[OidcProvider]:
    """Providers from ``BACKEND_OIDC_ISSUER``, such as ``first=http://localhost:9400 second=http://localhost:9401``."""
    pairs = [pair.split("=", 1) for pair in os.environ.get("BACKEND_OIDC_ISSUER", "").split()]
    return [
        OidcProvider(name, issuer, title=name, scopes=["openid"], default_clients=[PEOPLE]) for name, issuer in pairs
    ]


config = OpenEoBackendConfig(
    id="test",
    capabilities_title="openeo-driver over titiler-openeo",
    enable_basic_auth=True,
    valid_basic_auth=lambda user, password: (
        {user: password} == {os.environ["BACKEND_USER"]: os.environ["BACKEND_PASSWORD"]}
    ),
    url_signer=UrlSigner(secret=os.environ["BACKEND_PASSWORD"], expiration=3600),
    oidc_providers=_providers(),
)
