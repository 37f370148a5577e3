"""The few calls to the API server that the lab itself makes.

Python's own HTTP client starts quicker than kubectl, and `up` asks often.
"""

import http.client
import json
import ssl

from . import pki
from .settings import API_PORT, HOST_IP


def request(method: str, path: str, body: dict | None = None, timeout: float = 5):
    """Returns (status, text). Raises OSError if the server cannot be reached."""
    tls = ssl.create_default_context(cafile=str(pki.CA))
    tls.load_cert_chain(pki.PKI / "admin.crt", pki.PKI / "admin.key")
    connection = http.client.HTTPSConnection(HOST_IP, API_PORT, timeout=timeout, context=tls)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Content-Type": "application/merge-patch+json"
                            if method == "PATCH" else "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except http.client.HTTPException as e:
        raise OSError(str(e)) from e
    finally:
        connection.close()


def ready() -> bool:
    try:
        return request("GET", "/readyz")[0] == 200
    except OSError:
        return False


def nodes() -> dict[str, dict]:
    """The nodes by name; none if the server cannot be reached."""
    try:
        status, text = request("GET", "/api/v1/nodes")
    except OSError:
        return {}
    if status != 200:
        return {}
    return {n["metadata"]["name"]: n for n in json.loads(text)["items"]}


def is_ready(node: dict) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True"
               for c in node["status"].get("conditions", []))
