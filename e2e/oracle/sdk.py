"""Tencent's SDK, installed once below the lab's cache, and a client that looks closely."""

import inspect
import json
import re
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))

from dlblab.cache import Tool  # noqa: E402
from dlblab.shell import retry, run  # noqa: E402

REQUIREMENTS = HERE / "requirements.txt"


def _install(target: Path) -> None:
    # A folder to import from, and no virtual environment: those cannot be renamed,
    # which is how the cache makes sure that nothing is half built.
    retry("downloading Tencent's SDK", lambda: run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
         "--only-binary", ":all:", "--disable-pip-version-check", "--no-warn-script-location",
         "--platform", "any", "--upgrade", "--target", target, "--requirement", REQUIREMENTS]))


sys.path.insert(0, str(Tool("tencent-sdk", (REQUIREMENTS,), "", "Tencent's SDK", _install).ensure()))

from tencentcloud.clb.v20180317 import clb_client, models  # noqa: E402
from tencentcloud.common.abstract_model import AbstractModel  # noqa: E402
from tencentcloud.common.credential import Credential  # noqa: E402
from tencentcloud.common.exception import TencentCloudSDKException  # noqa: E402
from tencentcloud.common.profile.client_profile import ClientProfile  # noqa: E402
from tencentcloud.common.profile.http_profile import HttpProfile  # noqa: E402

# The SDK warns of fields in replies that its models lack; that must not pass unnoticed.
warnings.simplefilter("error", UserWarning)

_TYPES = {"str": str, "int": int, "bool": bool, "float": (int, float)}


class Failed(Exception):
    """The emulator is not what the SDK expects."""


class Client(clb_client.ClbClient):
    """The SDK's client; remembers what came over the wire, and which actions were called."""

    def __init__(self, address: str, key: tuple[str, str], region: str = "ap-guangzhou"):
        profile = ClientProfile(httpProfile=HttpProfile(
            protocol="http", endpoint=address, reqTimeout=10))
        profile.disable_region_breaker = True
        super().__init__(Credential(*key), region, profile)
        self.raw = ""
        self.called = set()

    def call(self, action, params, options=None, headers=None):
        self.raw = super().call(action, params, options, headers)
        return self.raw

    def ask(self, name: str, **params):
        """Calls an action; gives the SDK's response after a close look at it."""
        request = getattr(models, f"{name}Request")()
        given = json.dumps(params)
        request.from_json_string(given)
        _same(name, params, request._serialize(allow_none=True))
        response = getattr(self, name)(request)
        raw = json.loads(self.raw)["Response"]
        _same(name, raw, response._serialize(allow_none=True))
        _typed(name, response)
        if not response.RequestId:
            raise Failed(f"{name}: no RequestId")
        self.called.add(name)
        return response

    def refused(self, code: str, name: str, **params) -> None:
        """Calls an action that must be refused with this code."""
        try:
            request = getattr(models, f"{name}Request")()
            request.from_json_string(json.dumps(params))
            getattr(self, name)(request)
        except TencentCloudSDKException as e:
            if e.code != code:
                raise Failed(f"{name}: {e.code} ({e.message}) instead of {code}") from e
            if not e.requestId:
                raise Failed(f"{name}: {code} came without RequestId") from e
            return
        raise Failed(f"{name}: accepted instead of refused with {code}")


def _same(path: str, raw, held) -> None:
    """Everything in `raw` is held by the SDK's model, which has more fields, all empty."""
    if isinstance(raw, dict) and isinstance(held, dict):
        for name, value in raw.items():
            if name not in held:
                raise Failed(f"{path}.{name} is unknown to the SDK")
            _same(f"{path}.{name}", value, held[name])
        for name in held.keys() - raw.keys():
            if held[name] is not None:
                raise Failed(f"{path}.{name} came from nowhere")
    elif isinstance(raw, list) and isinstance(held, list) and len(raw) == len(held):
        for i, (one, other) in enumerate(zip(raw, held)):
            _same(f"{path}[{i}]", one, other)
    elif raw != held or type(raw) is not type(held):
        raise Failed(f"{path} is {raw!r}, and {held!r} with the SDK")


def _typed(path: str, model: AbstractModel) -> None:
    """Each field has the type that the SDK's documentation gives it."""
    for attribute, value in vars(model).items():
        field = getattr(type(model), attribute[1:], None)
        if attribute == "_headers" or value is None or field is None:
            continue
        # Of a deprecated field, the documentation is no docstring, as a warning stands before it.
        kind = re.search(r":rtype: (list of )?(.+)", field.fget.__doc__ or inspect.getsource(field.fget))
        if not kind:
            raise Failed(f"{path}.{attribute[1:]} has no documented type")
        if bool(kind[1]) != isinstance(value, list):
            raise Failed(f"{path}.{attribute[1:]} is {value!r}, not {kind[0]}")
        for one in value if kind[1] else [value]:
            if isinstance(one, AbstractModel):
                if type(one).__name__ not in kind[2]:
                    raise Failed(f"{path}.{attribute[1:]} is no {kind[2]}")
                _typed(f"{path}.{attribute[1:]}", one)
            elif type(one) is bool and kind[2].strip() != "bool" or not isinstance(
                    one, _TYPES.get(kind[2].strip(), object)):
                raise Failed(f"{path}.{attribute[1:]} is {one!r}, not {kind[2]}")
