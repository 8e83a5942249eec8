"""Providers for Terraform that only have schemas, so that the real terraform can check a module without a network.

``google_provider.json`` names the arguments of the resources that the module uses, as version 6.50 of the provider
``hashicorp/google`` has them. Each argument has a type, and whether it is required, optional or only computed. A block
that may occur once is ``single``. Terraform reads a schema with the plugin protocol 5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

Json = dict[str, Any]

GOOGLE: Final[Json] = json.loads((Path(__file__).parent / "google_provider.json").read_text())
RANDOM: Final[Json] = {
    "provider": {"attributes": {}},
    "ephemeral": {
        "random_password": {
            "attributes": {
                "length": ["number", "required"],
                "special": ["bool", "optional"],
                "result": ["string", "computed"],
            }
        }
    },
}
NESTING: Final = {"single": 1, "list": 2, "set": 3, "map": 4}
WRITE_ONLY: Final = ("secret_data_wo",)


def number(field: int, value: int) -> bytes:
    """A number or a boolean in the encoding of protocol buffers."""
    return _varint(field << 3) + _varint(value) if value else b""


def text(field: int, value: bytes) -> bytes:
    """A text or a message."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def block(content: Json) -> bytes:
    """``Schema.Block``."""
    encoded = b""
    for name, (kind, use) in content["attributes"].items():
        is_filled = use == "computed" or (use == "optional" and name in ("id", "project"))
        attribute = text(1, name.encode()) + text(2, json.dumps(kind).encode()) + number(4, use == "required")
        attribute += number(5, use == "optional") + number(6, is_filled)
        encoded += text(2, attribute + number(10, name in WRITE_ONLY))
    for name, nested in content.get("blocks", {}).items():
        inner = text(1, name.encode()) + text(2, block(nested)) + number(3, NESTING[nested["nesting"]])
        encoded += text(3, inner + number(4, nested["required"]) + number(5, nested["single"]))
    return encoded


def schema(content: Json) -> bytes:
    """``GetProviderSchema.Response``."""
    encoded = text(1, text(2, block(content["provider"])))
    for field, group in ((2, "resources"), (3, "data"), (8, "ephemeral")):
        for name, resource in content.get(group, {}).items():
            encoded += text(field, text(1, name.encode()) + text(2, text(2, block(resource))))
    return encoded


PASSWORD: Final = text(3, text(2, json.dumps({"length": 32, "special": False, "result": "a" * 32}).encode()))
"""``OpenEphemeralResource.Response``."""


class _Provider(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, content: Json) -> None:
        self._schema = schema(content)

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        if not details.method.startswith("/tfplugin5.Provider/"):
            return None
        if method == "GetSchema":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: self._schema)
        if method == "OpenEphemeralResource":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: PASSWORD)
        # The configuration as it is; of all others, nothing to complain about.
        is_echo = method == "PrepareProviderConfig"
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request if is_echo else b"")


@contextmanager
def providers() -> Iterator[dict[str, str]]:
    """Serves the providers. Yields the variables by which terraform finds them."""
    found: Json = {}
    with ExitStack() as stack:
        for name, content in (("google", GOOGLE), ("random", RANDOM)):
            server = grpc.server(ThreadPoolExecutor(4))
            server.add_generic_rpc_handlers((_Provider(content),))
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            stack.callback(server.stop, None)
            found[f"registry.terraform.io/hashicorp/{name}"] = {
                "Protocol": "grpc",
                "ProtocolVersion": 5,
                "Pid": os.getpid(),
                "Test": True,
                "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
            }
        yield {"TF_REATTACH_PROVIDERS": json.dumps(found), "CHECKPOINT_DISABLE": "1", "TF_CLI_ARGS": "-no-color"}
