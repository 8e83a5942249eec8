"""A Google Cloud in memory, as an HTTP proxy: it answers the requests of the deployment and records them.

It contains the REST resources that deploy.sh uses and their IAM policies. Operations finish at once, and nothing is
validated. It is a proxy and not an endpoint, because gcloud builds regional host names
(us-central1-run.googleapis.com) that would not resolve. Clients must use plain HTTP: an attempt to use TLS is rejected
and recorded in ``refused``.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.deploy.fake_run import FakeRun
from tests.http_target import threaded_server

PROJECT_NUMBER = "123456789012"
HOSTS = (
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "cloudtasks",
    "firestore",
    "iam",
    "logging",
    "monitoring",
    "run",
    "secretmanager",
    "serviceusage",
    "storage",
)
MAPS = ("environmentVariables",)
"""What an update replaces as a whole."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    body: Any

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"

    @property
    def writes(self) -> bool:
        """Whether it is there to change something."""
        reading = (":getIamPolicy", ":testIamPermissions", ":generateUploadUrl")
        return self.method != "GET" and not self.path.endswith(reading)


@dataclass
class FakeGoogle:
    """What is there, and what was asked for."""

    requests: list[Request] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    resources: dict[str, Json] = field(default_factory=dict)
    policies: dict[str, Json] = field(default_factory=dict)
    enabled: set[str] = field(default_factory=set)
    forbidden: str = ""
    """Whatever has this in its path is answered with 403."""
    removes_signatures: bool = False
    """Cloud Run removes the signatures of tokens: a worker that checks them answers 401."""
    looks_while_building: int = 0
    """How often composite indexes are listed before they are built."""
    deliveries: list[tuple[str, int]] = field(default_factory=list)
    """The URL of each task, and what its worker answered."""
    uploads: list[bytes] = field(default_factory=list)
    secrets: dict[str, list[str]] = field(default_factory=dict)
    """The values of the versions of each secret."""
    run: FakeRun = field(init=False)
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.run = FakeRun(self.resources, PROJECT_NUMBER)

    def environment(self) -> dict[str, str]:
        """The variables that lead gcloud, and Python's urllib, here."""
        host, _, port = self.address.partition(":")
        overrides = {
            f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name.upper()}": f"http://{name}.googleapis.com/" for name in HOSTS
        }
        return overrides | {
            "CLOUDSDK_PROXY_TYPE": "http",
            "CLOUDSDK_PROXY_ADDRESS": host,
            "CLOUDSDK_PROXY_PORT": port,
            "http_proxy": f"http://{self.address}",
        }

    def bindings(self, resource: str) -> dict[str, set[str]]:
        """Who has which role on a resource, by its path."""
        found: dict[str, set[str]] = {}
        for binding in self.policies.get(resource, {}).get("bindings", []):
            found.setdefault(binding["role"], set()).update(binding["members"])
        return found

    def remove(self, path: str) -> None:
        """Somebody removes a resource by hand; it must be there."""
        del self.resources[path]
        self.policies.pop(path, None)
        if self.secrets.pop(path, None):
            for name in [one for one in self.resources if one.startswith(f"{path}/")]:
                del self.resources[name]
        if "/functions/" in path:
            self._delete_service(path)

    def answer(self, request: Request, raw: bytes) -> tuple[int, Json]:
        with self.lock:
            self.requests.append(request)
            return self._answer(request, raw)

    def _answer(self, request: Request, raw: bytes) -> tuple[int, Json]:
        if self.forbidden and self.forbidden in request.path:
            return self._error(403, "PERMISSION_DENIED", "The caller does not have permission")
        path = re.sub(r"^/(v1|v2|v3|v2beta3|apis/serving\.knative\.dev/v1)/", "", request.path)
        path = re.sub(r"^projects/-/(serviceAccounts/[^@]+@([^.]+))", r"projects/\2/\1", path)
        resource, _, verb = path.partition(":")
        if request.host == "storage.googleapis.com":
            return 200, self._storage(request, resource, raw)
        if resource.endswith("/builds") and request.method == "POST":
            return 200, self._build(f"{resource}/build-1", request.body)
        if request.host.startswith("serviceusage"):
            return self._service_usage(request, resource, verb)
        if request.host.startswith("cloudresourcemanager") and not verb:
            project = resource.removeprefix("projects/")
            return 200, {"projectId": project, "projectNumber": PROJECT_NUMBER, "lifecycleState": "ACTIVE"}
        if resource.endswith("/defaultServiceAccount"):
            account = f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
            return 200, {"serviceAccountEmail": f"projects/p/serviceAccounts/{account}"}
        if resource.endswith("/runtimes"):
            return 200, {"runtimes": [{"name": "python313", "environment": "GEN_2", "stage": "GA"}]}
        if "/operations/" in resource:
            return 200, {"name": resource, "done": True, "metadata": {}, "response": {}}
        if verb == "getIamPolicy":
            return 200, self.policies.get(resource, {"etag": "BwY="})
        if verb == "setIamPolicy":
            self.policies[resource] = request.body["policy"]
            return 200, request.body["policy"]
        if verb == "generateUploadUrl":
            return 200, {
                "uploadUrl": "http://storage.googleapis.com/upload/source.zip",
                "storageSource": {"bucket": "sources", "object": "source.zip"},
            }
        if request.host.startswith("secretmanager"):
            return self._secret(request, resource, verb)
        return self._resource(request, resource)

    def _secret(self, request: Request, path: str, verb: str) -> tuple[int, Json]:
        if path.endswith("/versions"):
            return 200, {"versions": self._below(path)}
        if verb != "addVersion" and not path.endswith("/versions/latest"):
            return self._resource(request, path)
        if verb == "addVersion":
            name = f"{path}/versions/{len(self.secrets.setdefault(path, [])) + 1}"
            self.secrets[path].append(base64.b64decode(request.body["payload"]["data"]).decode())
            return 200, self._put(name, {"state": "ENABLED", "clientSpecifiedPayloadChecksum": True})
        secret = path.removesuffix("/versions/latest")
        if secret not in self.secrets:
            return self._error(404, "NOT_FOUND", f"Secret Version [{path}] not found.")
        return 200, self.resources[f"{secret}/versions/{len(self.secrets[secret])}"]

    def _service_usage(self, request: Request, resource: str, verb: str) -> tuple[int, Json]:
        if verb == "batchEnable":
            self.enabled.update(request.body["serviceIds"])
            return 200, {"name": "operations/acf.1", "done": True, "response": {}}
        name = resource.rpartition("/")[2]
        return 200, {"name": resource, "state": "ENABLED" if name in self.enabled else "DISABLED"}

    def _storage(self, request: Request, path: str, raw: bytes) -> Json:
        """The answer to a request about a bucket or an object; what is uploaded is kept."""
        if request.method != "GET":
            if request.query.get("uploadType") == "multipart":  # the second part, without its headers
                boundary = raw.partition(b"\n")[0].strip()
                raw = (
                    re.split(rb"\r?\n\r?\n", raw.split(boundary)[2], maxsplit=1)[1]
                    .removesuffix(b"\n")
                    .removesuffix(b"\r")
                )
            self.uploads.append(raw)
            return {
                "name": request.query.get("name", ""),
                "bucket": "sources",
                "generation": "1",
                "size": str(len(raw)),
            }
        if path.endswith("/b"):
            return {"items": [{"id": request.query["prefix"]}]}
        return {"name": path.rpartition("/")[2], "storageClass": "STANDARD", "locationType": "region"}

    def _build(self, name: str, body: Json) -> Json:
        """Starts a build that has succeeded."""
        build = body | {
            "id": "build-1",
            "projectId": "my-project",
            "status": "SUCCESS",
            "logUrl": "https://build",
            "createTime": "2025-01-01T00:00:00Z",
        }
        self._put(name, build)
        kind = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"
        return {"name": "operations/build/1", "metadata": {"@type": kind, "build": build | {"name": name}}}

    def _resource(self, request: Request, path: str) -> tuple[int, Json]:
        if request.method == "GET" and path.endswith(("/indexes", "/fields")):
            return 200, self._listed(path, request.query.get("filter", ""))
        if request.method == "GET" and path.startswith("namespaces/") and path.endswith("/revisions"):
            return 200, self.run.revisions(request.query.get("labelSelector", ""))
        kind = path.rpartition("/")[2]
        if request.method == "GET" and kind in ("alertPolicies", "backupSchedules", "dashboards", "tasks"):
            return 200, {kind: self._below(path)}
        if request.method == "POST" and path.startswith("namespaces/"):
            return 200, self.run.create(f"{path}/{request.body['metadata']['name']}", request.body)
        if request.method == "POST":
            name = path if request.host.startswith("run") else f"{path}/{self._new_id(request)}"
            if name in self.resources:
                return self._error(409, "ALREADY_EXISTS", f"{name} already exists")
            return 200, self._done(request, self._create(name, request))
        if request.method == "PATCH" and "/fields/" in path:
            merged = self.resources.get(path, {}) | {k: request.body[k] for k in request.query["updateMask"].split(",")}
            return 200, self._done(request, self._put(path, merged))
        if request.method == "GET" and "/tasks/" in path and path in self.resources:
            self._deliver(path)
        if path not in self.resources:
            return self._error(404, "NOT_FOUND", "Requested entity was not found.")
        if request.method == "PUT" and path.startswith("namespaces/"):
            return 200, self.run.replace(path, request.body)
        if request.method == "PATCH":
            if "/functions/" in path:
                self.run.deploy(path, _merged(self.resources[path], request.body)["serviceConfig"])
            return 200, self._done(request, self._put(path, _merged(self.resources[path], request.body)))
        if request.method == "DELETE":
            self.remove(path)
            return 200, self._done(request, {})
        return 200, self.resources[path]

    def _new_id(self, request: Request) -> str:
        body, query = request.body, request.query
        if request.path.endswith(("/alertPolicies", "/backupSchedules", "/dashboards", "/indexes")):
            return f"made-{len(self.requests)}"
        if "accountId" in body:
            project = request.path.split("/")[3]
            return f"{body['accountId']}@{project}.iam.gserviceaccount.com"
        body = body.get("task", body)
        return str(
            query.get("functionId")
            or query.get("databaseId")
            or query.get("repositoryId")
            or query.get("secretId")
            or query.get("documentId")
            or body["name"].rpartition("/")[2]
        )

    def _create(self, name: str, request: Request) -> Json:
        body = dict(request.body.get("task", request.body))
        if "accountId" in body:
            body = body["serviceAccount"] | {"email": name.rpartition("/")[2], "uniqueId": "1"}
        if "/functions/" in name:
            return self._create_function(name, body)
        if "/collectionGroups/" in name:  # as Firestore does
            body["fields"] = [*body["fields"], {"fieldPath": "__name__", "order": "ASCENDING"}]
        return self._put(name, body)

    def _deliver(self, name: str) -> None:
        """Delivers a task to the worker. If it fails, the task stays and tells why."""
        task = self.resources[name]["httpRequest"]
        checks = self.run.variables("gorchestrate-worker")["GORCHESTRATE_WORKER_AUTH"] == "oidc"
        status = 401 if self.removes_signatures and checks else 200
        self.deliveries.append((task["url"], status))
        if status == 200:
            del self.resources[name]
        else:
            answer = {"code": 16, "message": f"UNAUTHENTICATED(16): HTTP status code {status}"}
            self.resources[name]["lastAttempt"] = {"responseTime": "2025-01-01T00:00:00Z", "responseStatus": answer}

    def _create_function(self, name: str, body: Json) -> Json:
        self.run.deploy(name, body["serviceConfig"])
        service = {"service": name.replace("/functions/", "/services/"), "uri": "https://hash-uc.a.run.app"}
        more = {"state": "ACTIVE", "environment": "GEN_2", "serviceConfig": body["serviceConfig"] | service}
        return self._put(name, body | more)

    def _put(self, name: str, body: Json) -> Json:
        self.resources[name] = body | {"name": name}
        return self.resources[name]

    def _delete_service(self, function: str) -> None:
        self.run.delete(function)
        self.policies.pop(function.replace("/functions/", "/services/"), None)

    def _below(self, path: str) -> list[Json]:
        return [body for name, body in self.resources.items() if name.startswith(f"{path}/")]

    def _listed(self, path: str, filter: str) -> Json:
        kind = path.rpartition("/")[2]
        prefix = path.replace("/collectionGroups/-/", "/collectionGroups/").removesuffix(f"/{kind}")
        key = "ttlConfig" if filter.startswith("ttlConfig") else "indexConfig"
        found = [
            body
            for name, body in self.resources.items()
            if name.startswith(prefix.removesuffix("/fields")) and f"/{kind}/" in name
        ]
        if kind == "indexes" and found and self.looks_while_building:
            self.looks_while_building -= 1
            found = [body | {"state": "CREATING"} for body in found]
        return {kind: [body for body in found if kind == "indexes" or key in body]}

    @staticmethod
    def _done(request: Request, body: Json) -> Json:
        """The answer to a change: an operation where the API has one, else the resource itself."""
        if (
            not request.host.startswith(("artifactregistry", "cloudfunctions", "firestore"))
            or "/documents/" in request.path
        ):
            return body
        name = "/".join(request.path.split("/")[2:6]) + "/operations/1"
        return {"name": name, "done": True, "metadata": {}, "response": {"@type": "type.googleapis.com/x"} | body}

    @staticmethod
    def _error(code: int, status: str, message: str) -> tuple[int, Json]:
        return code, {"error": {"code": code, "status": status, "message": message}}


def _merged(old: Json, new: Json) -> Json:
    return old | {
        name: _merged(old[name], value) if isinstance(value, dict) and name in old and name not in MAPS else value
        for name, value in new.items()
    }


@contextmanager
def fake_google() -> Iterator[FakeGoogle]:
    """An empty Google Cloud on a free port."""
    google = FakeGoogle()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            google.refused.append(self.path)
            self.send_error(HTTPStatus.BAD_GATEWAY)

        def answer(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            is_json = "json" in self.headers.get("Content-Type", "")
            body = json.loads(raw) if raw and is_json else {}
            request = Request(self.command, url.netloc, unquote(url.path), query, body)
            status, reply = google.answer(request, raw)
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with threaded_server(Handler) as port:
        google.address = f"127.0.0.1:{port}"
        yield google
