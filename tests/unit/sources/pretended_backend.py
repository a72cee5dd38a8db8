"""An openEO backend with OpenID Connect that is a function: it answers every ``requests.Session``."""

import io
import json
import re
from typing import Any
from urllib.parse import parse_qsl

import requests
import urllib3

from tests.oidc import Provider

URL = "https://openeo.example"
PEOPLE = {"id": "people", "grant_types": ["urn:ietf:params:oauth:grant-type:device_code+pkce", "refresh_token"]}
ENDPOINTS = ("/credentials/basic", "/credentials/oidc", "/me", "/jobs", "/collections/{collection_id}")
Answer = tuple[int, Any] | Exception


class Pretended:
    """A backend; ``answers`` are what it says regardless of the login, or an exception that is raised."""

    def __init__(self) -> None:
        self.provider = Provider(f"{URL}/oidc")
        self.asked: list[str] = []
        listed = [{"path": path, "methods": ["GET"]} for path in ENDPOINTS]
        about = {"api_version": "1.2.0", "backend_version": "1", "title": "Pretended", "endpoints": listed}
        main = {"id": "main", "issuer": self.provider.issuer, "title": "Main", "default_clients": [PEOPLE]}
        other = {"id": "other", "issuer": f"{URL}/nowhere", "title": "Other"}
        self.answers: dict[str, Answer] = {
            "GET /": (200, about),
            "GET /.well-known/openeo": (404, {"code": "NotFound", "message": "no"}),
            "GET /credentials/basic": (200, {"access_token": "token"}),
            "GET /credentials/oidc": (200, {"providers": [main, other]}),
            "GET /nowhere/.well-known/openid-configuration": (404, {}),
        }
        self.about = about

    def send(self, adapter: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Answer a request in the place of ``HTTPAdapter.send``."""
        assert options["timeout"], "every request ends"
        path = re.sub(r"^https://[^/]+", "", str(request.url)).partition("?")[0] or "/"
        key = f"{request.method} {path}"
        self.asked.append(key)
        answer = self.answers.get(key)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer or self._answer(path, request)
        response = requests.Response()
        response.status_code, response.url, response.request, response.reason = status, str(request.url), request, "so"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response.raw = urllib3.HTTPResponse(io.BytesIO(content), status=status, preload_content=False)
        return response

    def _answer(self, path: str, request: requests.PreparedRequest) -> tuple[int, Any]:
        if path.startswith("/oidc/"):
            return self.provider.answer(path.removeprefix("/oidc"), dict(parse_qsl(str(request.body or ""))))
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        user = self.provider.good.get(bearer.removeprefix("oidc/main/"))
        if bearer != "basic//token" and user is None:
            return 403, {"code": "TokenInvalid", "message": "expired"}
        if path == "/me":
            return 200, {"user_id": user or "tester"}
        return 404, {"code": "NotFound", "message": f"no {path}"}
