"""Cloud Run in memory: the services of functions, their revisions and which of them get requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass
class FakeRun:
    """The services and revisions, among the resources of the fake."""

    resources: dict[str, Json]
    project_number: str
    created: int = 0
    pinned: bool = False
    """A new revision gets no requests unless the traffic goes to the latest one, whatever a function asks for."""
    refuses_traffic: bool = False
    """A change of the traffic is accepted, and nothing changes."""

    def deploy(self, function: str, config: Json) -> None:
        """Makes a revision of a function's service, and the service if it does not exist."""
        _, project, _, region, _, name = function.split("/")
        path = f"namespaces/{project}/services/{name}"
        service = self.resources.setdefault(path, self._service(project, region, name))
        variables = config.get("environmentVariables", {})
        env = [{"name": n, "value": v} for n, v in variables.items()]
        service["spec"]["template"] = {"metadata": {}, "spec": {"containers": [{"image": "i", "env": env}]}}
        if config.get("allTrafficOnLatestRevision") and not self.pinned:
            service["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}]
        self._add_revision(path)

    def create(self, path: str, body: Json) -> Json:
        """Creates a service from an image, with its first revision."""
        _, project, _, name = path.split("/")
        service = self.resources[path] = self._service(project, "us-central1", name)
        service["spec"]["template"] = body["spec"]["template"]
        self._annotate(service, body)
        self._add_revision(path)
        return service

    def replace(self, path: str, body: Json) -> Json:
        """Replaces a service: its traffic, and its template, of which there is then a new revision."""
        service = self.resources[path]
        if not self.refuses_traffic:
            service["spec"]["traffic"] = body["spec"]["traffic"]
        self._annotate(service, body)
        if body["spec"]["template"] != service["spec"]["template"]:
            service["spec"]["template"] = body["spec"]["template"]
            self._add_revision(path)
        elif not self.refuses_traffic:
            self._apply(service)
        return service

    @staticmethod
    def _annotate(service: Json, body: Json) -> None:
        service["metadata"]["annotations"] |= body["metadata"].get("annotations", {})

    def _add_revision(self, path: str) -> None:
        """Adds a revision of a service's template."""
        _, project, _, name = path.split("/")
        service = self.resources[path]
        self.created += 1
        revision = f"{name}-{self.created:05d}-abc"
        self.resources[f"namespaces/{project}/revisions/{revision}"] = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Revision",
            "metadata": {
                "name": revision,
                "namespace": project,
                "creationTimestamp": f"2025-01-01T00:{self.created // 60:02d}:{self.created % 60:02d}Z",
                "labels": {"serving.knative.dev/service": name},
            },
            "spec": service["spec"]["template"]["spec"],
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        service["status"] |= {"latestCreatedRevisionName": revision, "latestReadyRevisionName": revision}
        self._apply(service)

    def variables(self, name: str) -> dict[str, str]:
        """The variables of the only service of this name."""
        (service,) = [
            body for path, body in self.resources.items() if path.endswith(f"/services/{name}") and "spec" in body
        ]
        (container,) = service["spec"]["template"]["spec"]["containers"]
        return {variable["name"]: variable.get("value", "") for variable in container["env"]}

    def revisions(self, selector: str) -> Json:
        """The revisions of a service."""
        name = selector.rpartition("=")[2].strip()
        found = [
            body
            for path, body in self.resources.items()
            if "/revisions/" in path and body["metadata"]["labels"]["serving.knative.dev/service"] == name
        ]
        return {"apiVersion": "serving.knative.dev/v1", "kind": "RevisionList", "metadata": {}, "items": found}

    def delete(self, function: str) -> None:
        """Deletes a function's service with its revisions."""
        _, project, _, _, _, name = function.split("/")
        self.resources.pop(f"namespaces/{project}/services/{name}", None)
        for path in [one for one in self.resources if one.startswith(f"namespaces/{project}/revisions/{name}-0")]:
            del self.resources[path]

    @staticmethod
    def _apply(service: Json) -> None:
        latest = service["status"]["latestCreatedRevisionName"]
        service["status"]["traffic"] = [
            {"revisionName": target.get("revisionName") or latest, "percent": target.get("percent", 0)}
            | ({"latestRevision": True} if target.get("latestRevision") else {})
            for target in service["spec"]["traffic"]
        ]

    def _service(self, project: str, region: str, name: str) -> Json:
        url = f"https://{name}-{self.project_number}.{region}.run.app"
        return {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": project,
                "generation": 1,
                "annotations": {"run.googleapis.com/urls": json.dumps([url, "https://hash-uc.a.run.app"])},
                "labels": {"cloud.googleapis.com/location": region},
            },
            "spec": {
                "template": {"metadata": {}, "spec": {"containers": [{"image": "i"}]}},
                "traffic": [{"latestRevision": True, "percent": 100}],
            },
            "status": {
                "url": url,
                "observedGeneration": 1,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
