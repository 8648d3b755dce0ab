"""`target=kubernetes`: manifests, a file an object. No cluster is asked; equal trees give equal bytes."""

from dataclasses import replace
from typing import Any

from deployer.config.load import load_option
from deployer.config.schema import DeployConfig
from deployer.config.targets import KubernetesTarget, RayServeTarget
from deployer.errors import ConfigError
from deployer.plan.plan import Plan
from deployer.targets.carried import FILE, carried, fingerprint, text_of
from deployer.targets.images import default_image
from deployer.targets.kserve import inference_service, runtime_and_service
from deployer.targets.kubernetes_pod import (
    INSTANCE,
    KEYS_DIR,
    MANAGED_BY,
    PART_OF,
    PORT,
    Manifest,
    PodCase,
    pod_labels,
    pod_spec,
    ports,
)
from deployer.targets.needs import needs_of
from deployer.targets.ray_service import ray_service
from deployer.targets.written import Rendered
from deployer.verb import OptionGroup
from deployer.yaml_text import yaml_text

RAY_SERVE = "deployer.config.targets:RayServeTarget"
FINGERPRINT = "vlm-deployer/config-sha256"
IN_FLIGHT = "deployer_requests_in_flight"  # of /metrics; an adapter shows it to the autoscaler
CALM_S = 300  # without load before a pod goes: a new one takes minutes to load


def render(config: DeployConfig, plan: Plan) -> list[Rendered]:
    """Return the manifests. Raises ConfigError or NoFitError for what no cluster can run."""
    target = config.target
    assert isinstance(target, KubernetesTarget), "chosen by its kind"
    case, text = _case(config, target, plan)
    if target.form == "rayservice":
        objects = {"rayservice.yaml": _named(case, ray_service(case), text)}
    else:
        objects = {"configmap.yaml": _config_map(case, text)}
    if target.form == "deployment":
        objects |= _deployment_files(case, text)
    elif target.form == "kserve":
        objects["inferenceservice.yaml"] = _named(case, inference_service(case), text)
    elif target.form == "kserve_runtime":
        runtime, service = runtime_and_service(case)
        objects["servingruntime.yaml"] = _named(case, runtime, text)
        objects["inferenceservice.yaml"] = _named(case, service, text)
    objects["networkpolicy.yaml"] = _network_policy(case)
    return [Rendered(path=path, text=yaml_text(value)) for path, value in objects.items()]


def _case(config: DeployConfig, target: KubernetesTarget, plan: Plan) -> tuple[PodCase, str]:
    if config.model.hub == "folder" and not (config.model.path or "").startswith("/"):
        rule = "a volume is mounted there, so it must begin with /"
        raise ConfigError([f"model.path={config.model.path}: {rule}; give the whole path"])
    needs = needs_of(config, plan)
    keys = None if target.api_keys_secret is None else f"{KEYS_DIR}/api_keys"
    there = carried(
        config,
        needs,
        host="0.0.0.0",
        port=PORT,
        api_keys_file=keys,
        has_model_folder=target.model_claim is not None,
        target=_on_ray(target) if target.form == "rayservice" else None,
    )
    case = PodCase(
        config=there,
        target=target,
        needs=needs,
        image=target.image or default_image(on_gpu=needs.on_gpu),
        config_map=f"{needs.name}-config",
    )
    return case, text_of(there)


def _on_ray(target: KubernetesTarget) -> RayServeTarget:
    """Return what Ray Serve is told of the same replicas."""
    shipped = load_option(OptionGroup(name="target", option="ray_serve", kind=RAY_SERVE), "ray_serve")
    assert isinstance(shipped, RayServeTarget), "as it ships in conf/"
    return replace(
        shipped,
        name=target.name,
        address="auto",
        min_replicas=target.min_replicas,
        max_replicas=target.max_replicas,
        in_flight_per_replica=target.in_flight_per_replica,
        cpus_per_rank=float(target.cpus_per_rank),
        gpus_per_node=target.gpus_per_node,
    )


def _deployment_files(case: PodCase, text: str) -> dict[str, Manifest]:
    found = {"deployment.yaml": _named(case, _deployment(case, text), text), "service.yaml": _service(case)}
    if case.target.max_replicas > 1:
        found["poddisruptionbudget.yaml"] = _disruption_budget(case)
    if case.target.max_replicas > case.target.min_replicas:
        found["horizontalpodautoscaler.yaml"] = _autoscaler(case)
    return found


def _deployment(case: PodCase, text: str) -> Manifest:
    scaled = case.target.max_replicas > case.target.min_replicas
    annotations = {
        FINGERPRINT: fingerprint(text),  # another config is another pod
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(PORT),
        "prometheus.io/path": "/metrics",
    }
    spec: Manifest = {
        **({} if scaled else {"replicas": case.target.min_replicas}),  # else the autoscaler's
        "selector": {"matchLabels": {INSTANCE: case.needs.name}},
        # A second set of GPUs for the time of an update is rarely there: an old pod goes first.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "progressDeadlineSeconds": 3600,
        "template": {
            "metadata": {"labels": labels(case), "annotations": annotations},
            "spec": pod_spec(case),
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}


def _service(case: PodCase) -> Manifest:
    spec = {
        "type": "ClusterIP",
        "selector": {INSTANCE: case.needs.name},
        "ports": [
            {"name": name, "port": 80 if name == "http" else port, "targetPort": name}
            for name, port in ports(case).items()
        ],
    }
    return _object(case, "v1", "Service", spec=spec)


def _config_map(case: PodCase, text: str) -> Manifest:
    return _object(case, "v1", "ConfigMap", name=case.config_map, data={FILE: text})


def _disruption_budget(case: PodCase) -> Manifest:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {INSTANCE: case.needs.name}}}
    return _object(case, "policy/v1", "PodDisruptionBudget", spec=spec)


def _autoscaler(case: PodCase) -> Manifest:
    target = case.target
    aim = target.in_flight_per_replica or case.config.engine.max_batch_size
    metric = {
        "type": "Pods",
        "pods": {
            "metric": {"name": IN_FLIGHT},
            "target": {"type": "AverageValue", "averageValue": str(aim)},
        },
    }
    one_at_a_time = {"type": "Pods", "value": 1, "periodSeconds": 60}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": case.needs.name},
        "minReplicas": target.min_replicas,
        "maxReplicas": target.max_replicas,
        "metrics": [metric],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": CALM_S, "policies": [one_at_a_time]}},
    }
    return _object(case, "autoscaling/v2", "HorizontalPodAutoscaler", spec=spec)


def _network_policy(case: PodCase) -> Manifest:
    """Return who may ask: pods of its own namespace, and of those that are named. What it may ask is open."""
    peers: list[Manifest] = [{"podSelector": {}}]
    for namespace in sorted(case.target.allow_from_namespaces):
        label = {"kubernetes.io/metadata.name": namespace}
        peers.append({"namespaceSelector": {"matchLabels": label}})
    ingress: Manifest = {"from": peers}
    if case.target.form == "deployment":  # the others bring ports of their own
        ingress["ports"] = [{"port": name, "protocol": "TCP"} for name in ports(case)]
    spec = {
        "podSelector": {"matchLabels": pod_labels(case)},
        "policyTypes": ["Ingress"],
        "ingress": [ingress],
    }
    return _object(case, "networking.k8s.io/v1", "NetworkPolicy", spec=spec)


def labels(case: PodCase) -> dict[str, str]:
    """Return the labels of every object and pod."""
    return {**pod_labels(case), PART_OF: case.needs.name, MANAGED_BY: "vlm-deployer"}


def _named(case: PodCase, value: Manifest, text: str) -> Manifest:
    """Return an object with its name, labels and the hash of its config."""
    named = _object(case, value["apiVersion"], value["kind"], spec=value["spec"])
    named["metadata"]["annotations"] = {FINGERPRINT: fingerprint(text), **value.get("metadata", {})}
    return named


def _object(case: PodCase, version: str, kind: str, *, name: str | None = None, **body: Any) -> Manifest:
    metadata = {
        "name": name or case.needs.name,
        "namespace": case.target.namespace,
        "labels": labels(case),
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}
