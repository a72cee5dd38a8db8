"""Configuration of the openEO driver under test: basic auth with one user."""

import os

from openeo_driver.config import OpenEoBackendConfig
from openeo_driver.urlsigning import UrlSigner

config = OpenEoBackendConfig(
    id="test",
    capabilities_title="openeo-driver over titiler-openeo",
    enable_basic_auth=True,
    valid_basic_auth=lambda user, password: (
        {user: password} == {os.environ["BACKEND_USER"]: os.environ["BACKEND_PASSWORD"]}
    ),
    url_signer=UrlSigner(secret=os.environ["BACKEND_PASSWORD"], expiration=3600),
)
