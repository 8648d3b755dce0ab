"""`target.form=rayservice`: the application of `deployer.ray_serve` on a cluster that KubeRay keeps.

`ray.io/v1`, kind RayService: a head without GPUs, and workers with one replica each. Ray scales the replicas
by requests in flight, KubeRay's autoscaler the workers that hold them.
"""

from dataclasses import replace
from typing import Any

import yaml

from deployer.targets.kubernetes_pod import PORT, Manifest, PodCase, pod_labels, pod_spec, quantity
from deployer.targets.ray_serve import application

HEAD_BYTES = 8 << 30  # the head of Ray and the front
HEAD_CORES = 2


def ray_service(case: PodCase) -> Manifest:
    """Return the RayService."""
    serving = {
        "http_options": {"host": "0.0.0.0", "port": PORT},
        "applications": [application(case.needs.name, case.config)],
    }
    cluster = {
        "rayVersion": case.target.ray_version,
        "enableInTreeAutoscaling": case.target.max_replicas > case.target.min_replicas,
        "headGroupSpec": {"rayStartParams": {"num-gpus": "0"}, "template": _head(case)},
        "workerGroupSpecs": [_workers(case)],
    }
    spec = {"serveConfigV2": yaml.safe_dump(serving, sort_keys=False), "rayClusterConfig": cluster}
    return {"apiVersion": "ray.io/v1", "kind": "RayService", "spec": spec}


def _workers(case: PodCase) -> Manifest:
    return {
        "groupName": "engines",
        "replicas": case.target.min_replicas,
        "minReplicas": case.target.min_replicas,
        "maxReplicas": case.target.max_replicas,
        "rayStartParams": {},
        "template": _template(case, "ray-worker"),
    }


def _head(case: PodCase) -> Manifest:
    needs = replace(case.needs, num_gpus=0, on_gpu=False)
    template = _template(replace(case, needs=needs), "ray-head")
    asked = {"cpu": str(HEAD_CORES), "memory": quantity(HEAD_BYTES)}
    container = template["spec"]["containers"][0]
    container["resources"] = {"requests": asked, "limits": {"memory": asked["memory"]}}
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "client", "containerPort": 10001},
        {"name": "serve", "containerPort": PORT},
    ]
    return template


def _template(case: PodCase, name: str) -> Manifest:
    """Return our pod with Ray's own start: KubeRay gives command and probes."""
    spec: dict[str, Any] = pod_spec(case)
    container = spec["containers"][0]
    for key in ("command", "startupProbe", "readinessProbe", "livenessProbe", "ports", "lifecycle"):
        del container[key]
    container["name"] = name
    for part, key in ((spec, "volumes"), (container, "volumeMounts")):
        part[key] = [volume for volume in part[key] if volume["name"] != "config"]  # Serve's config has it
    # NOTE: Ray writes its sessions below /tmp, and its wrapper elsewhere too.
    container["securityContext"]["readOnlyRootFilesystem"] = False
    return {"metadata": {"labels": pod_labels(case)}, "spec": spec}
