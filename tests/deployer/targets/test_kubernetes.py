"""`target=kubernetes`: manifests that a cluster takes, with resources and times of the plan."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import named, render_files, render_objects

from deployer.config import load_config
from deployer.errors import ConfigError, NoFitError
from deployer.targets.kubernetes_pod import PROBE_S, quantity

ON_GPU = ("+model=internvl2_8b", "target=kubernetes")
KEYS = "target.api_keys_secret=keys"
# Kubernetes 1.30 to the newest whose schemas are at hand.
VERSIONS = ("1.30", "1.34", "1.37")


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_holds_against_the_published_schema(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="has the schemas of Kubernetes").validate
    words = (*ON_GPU, KEYS, "target.max_replicas=3", "target.hub_token_secret=hub", "engine.tp=2")
    manifests = render_objects(*words, "target.cache_claim=cache", "target.allow_from_namespaces=[ingress]")
    kinds = {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    }
    assert set(manifests) == kinds
    for manifest in manifests.values():
        validate(manifest, version, strict=True)


def test_equal_trees_give_equal_bytes() -> None:
    assert render_files(*ON_GPU, KEYS) == render_files(*ON_GPU, KEYS)


def test_the_pod_serves_what_was_planned_here(tmp_path: Path) -> None:
    text = render_objects(*ON_GPU, KEYS, "engine.max_batch_size=17")["ConfigMap"]["data"]["deployment.yaml"]
    file = tmp_path / "deployment.yaml"
    file.write_text(text.replace("/run/secrets/vlm-deployer/api_keys", str(file)))
    here = load_config(["+model=internvl2_8b", "engine.max_batch_size=17"])
    there = load_config([str(file)])
    assert there.model == here.model and there.engine.max_batch_size == 17
    assert there.engine.device_type == "cuda", "a pod without its GPU must not serve from its CPU"
    assert (there.server.host, there.server.port, there.target.kind) == ("0.0.0.0", 8000, "local")


def test_another_config_makes_other_pods() -> None:
    first, second = (
        render_objects(*ON_GPU, f"engine.max_batch_size={size}")["Deployment"]["spec"]["template"]["metadata"]
        for size in (16, 32)
    )
    assert first["annotations"] != second["annotations"] and first["labels"] == second["labels"]


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_pod_asks_for_a_gpu_and_memory_for_each_rank(tp: int) -> None:
    words = ("target.cpus_per_rank=3", "target.server_bytes=1000000000", "target.rank_bytes=5000000000")
    deployment = render_objects(*ON_GPU, f"engine.tp={tp}", *words, "target.shm_bytes=1073741824")[
        "Deployment"
    ]
    asked = container_of(deployment)["resources"]
    memory = quantity(1_000_000_000 + 5_000_000_000 * tp + 2**30)
    assert asked["requests"]["nvidia.com/gpu"] == asked["limits"]["nvidia.com/gpu"] == str(tp)
    assert asked["requests"]["memory"] == asked["limits"]["memory"] == memory
    assert asked["requests"]["cpu"] == str(3 * tp)
    shm = named(deployment["spec"]["template"]["spec"]["volumes"], "shm")["emptyDir"]
    assert shm == {"medium": "Memory", "sizeLimit": "1024Mi"}


def test_a_pod_without_gpus_has_the_memory_that_was_planned_for() -> None:
    words = ("+model=pocket_vl", "target=kubernetes", "hardware=cpu", "hardware.memory_bytes=4294967296")
    deployment = render_objects(*words)["Deployment"]
    asked = container_of(deployment)["resources"]
    assert asked["limits"] == {"memory": "4096Mi"}
    assert "tolerations" not in deployment["spec"]["template"]["spec"]


def test_a_start_has_the_time_of_its_engine_and_its_download() -> None:
    def start_s(*words: str) -> int:
        probe = container_of(render_objects(*ON_GPU, *words)["Deployment"])["startupProbe"]
        return int(probe["failureThreshold"] * probe["periodSeconds"])

    loading = start_s("engine.start_timeout_s=100", "target.download_gbps=1000000")
    assert 100 <= loading <= 100 + PROBE_S
    for share in (0, 0.15):  # of the memory, for a copy that is made on the GPU
        words = ("engine=turbomind", f"engine.decode_weights={share}", "target.download_gbps=0.1")
        # 16 GB of weights at 0.1 GB/s
        assert 100 + 155 <= start_s("engine.start_timeout_s=100", *words) <= 100 + 175


def test_a_restarting_engine_is_not_killed_and_a_full_server_gets_no_more() -> None:
    container = container_of(render_objects(*ON_GPU)["Deployment"])
    live, ready = container["livenessProbe"], container["readinessProbe"]
    assert live["httpGet"]["path"] == "/health" and ready["httpGet"]["path"] == "/ready"
    assert live["failureThreshold"] * live["periodSeconds"] >= 600 + 300  # start_timeout_s + step_timeout_s
    assert ready["failureThreshold"] == 1


def test_a_pod_may_drain_before_it_is_killed() -> None:
    spec = render_objects(*ON_GPU, "server.drain_s=120")["Deployment"]["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > 120


def test_nothing_of_a_container_is_privileged_or_writable() -> None:
    spec = render_objects(*ON_GPU)["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_replicas_are_fixed_or_scaled_by_requests_in_flight() -> None:
    fixed = render_objects(*ON_GPU, "target.min_replicas=2", "target.max_replicas=2")
    assert fixed["Deployment"]["spec"]["replicas"] == 2 and "HorizontalPodAutoscaler" not in fixed
    scaled = render_objects(*ON_GPU, "target.max_replicas=4", "target.in_flight_per_replica=20")
    assert "replicas" not in scaled["Deployment"]["spec"], "else each apply would undo the autoscaler"
    spec = scaled["HorizontalPodAutoscaler"]["spec"]
    (metric,) = spec["metrics"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    assert metric["pods"]["metric"]["name"] == "deployer_requests_in_flight"
    assert metric["pods"]["target"]["averageValue"] == "20"


def test_one_pod_has_no_disruption_budget_that_would_never_let_a_node_go() -> None:
    assert "PodDisruptionBudget" not in render_objects(*ON_GPU)


def test_pods_of_the_namespace_and_of_named_ones_may_ask() -> None:
    policy = render_objects(*ON_GPU, "target.allow_from_namespaces=[web]")["NetworkPolicy"]["spec"]
    (rule,) = policy["ingress"]
    assert {"podSelector": {}} in rule["from"] and len(rule["from"]) == 2
    assert policy["policyTypes"] == ["Ingress"]


def test_keys_come_from_a_secret_and_never_stand_in_a_manifest() -> None:
    manifests = render_objects(*ON_GPU, KEYS)
    spec = manifests["Deployment"]["spec"]["template"]["spec"]
    assert named(spec["volumes"], "keys")["secret"]["secretName"] == "keys"
    assert (
        "api_keys_file: /run/secrets/vlm-deployer/api_keys"
        in manifests["ConfigMap"]["data"]["deployment.yaml"]
    )
    with pytest.raises(ConfigError, match=r"holds no secret.*create secret generic") as caught:
        render_objects(*ON_GPU, "server.api_keys=[sk-1]")
    assert "sk-1" not in str(caught.value)


def test_a_key_file_of_this_machine_is_not_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("sk-1\n")
    with pytest.raises(ConfigError, match="the server would be open to all"):
        render_objects(*ON_GPU, f"server.api_keys_file={file}")


def test_a_folder_of_this_machine_needs_a_claim(tmp_path: Path) -> None:
    words = ("+model=internvl2_8b", "model.hub=folder", f"model.path={tmp_path}", "target=kubernetes")
    with pytest.raises(ConfigError, match="which no pod sees"):
        render_objects(*words)
    deployment = render_objects(*words, "target.model_claim=weights")["Deployment"]
    mount = named(container_of(deployment)["volumeMounts"], "model")
    assert mount == {"name": "model", "mountPath": str(tmp_path), "readOnly": True}


def test_grpc_has_its_port_in_pod_service_and_policy() -> None:
    manifests = render_objects(*ON_GPU, "server.grpc_port=8001")
    assert {"name": "grpc", "containerPort": 8001} in container_of(manifests["Deployment"])["ports"]
    service = manifests["Service"]["spec"]["ports"]
    assert [(port["name"], port["port"]) for port in service] == [("http", 80), ("grpc", 8001)]
    (rule,) = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http", "grpc"]


def test_what_the_plan_says_no_to_is_not_rendered() -> None:
    with pytest.raises(NoFitError, match="does not fit on 1 x t4"):
        render_objects("+model=internvl2_26b", "target=kubernetes", "hardware=t4")


def test_kserve_gets_our_pod_as_its_own() -> None:
    manifests = render_objects(*ON_GPU, KEYS, "target.form=kserve", "target.max_replicas=3")
    assert set(manifests) == {"ConfigMap", "InferenceService", "NetworkPolicy"}
    service = manifests["InferenceService"]
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"
    predictor = service["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container" and predictor["maxReplicas"] == 3
    ours = render_objects(*ON_GPU, KEYS, "target.max_replicas=3")["Deployment"]["spec"]["template"]["spec"]
    assert predictor["volumes"] == ours["volumes"]
    assert {**container, "name": "server"} == container_of({"spec": {"template": {"spec": ours}}}), (
        "the same container, whoever runs it"
    )


POD_FIELDS = {"containers", "volumes", "nodeSelector", "tolerations", "imagePullSecrets"}
# V1alpha1ServingRuntimeSpec of KServe 0.21.
RUNTIME_FIELDS = {
    "affinity", "annotations", "builtInAdapter", "containers", "disabled", "grpcDataEndpoint", "grpcEndpoint",
    "hostIPC", "httpDataEndpoint", "imagePullSecrets", "labels", "multiModel", "nodeSelector",
    "protocolVersions", "replicas", "resourceClaims", "schedulerName", "storageHelper",
    "supportedModelFormats", "tolerations", "volumes", "workerSpec",
}  # fmt: skip


def test_runtime_and_service_of_kserve_are_our_pod_in_two_parts() -> None:
    words = (*ON_GPU, KEYS, "target.max_replicas=3", "target.node_selector={gpu: h100}")
    manifests = render_objects(*words, "target.form=kserve_runtime", "target.image_pull_secret=pull")
    assert set(manifests) == {"ConfigMap", "ServingRuntime", "InferenceService", "NetworkPolicy"}
    runtime, service = manifests["ServingRuntime"], manifests["InferenceService"]
    assert runtime["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert set(runtime["spec"]) <= RUNTIME_FIELDS
    predictor = service["spec"]["predictor"]
    model = predictor.pop("model")
    assert model["runtime"] == runtime["metadata"]["name"]
    (form,) = runtime["spec"]["supportedModelFormats"]
    assert (model["modelFormat"]["name"], form["autoSelect"]) == (form["name"], False)
    together = {**predictor, **{key: runtime["spec"][key] for key in runtime["spec"].keys() & POD_FIELDS}}
    whole = render_objects(*words, "target.form=kserve", "target.image_pull_secret=pull")["InferenceService"]
    assert together == whole["spec"]["predictor"], "nothing is lost between the two"


def test_a_rayservice_runs_our_application_with_a_replica_a_worker() -> None:
    words = (
        *ON_GPU,
        "target.form=rayservice",
        "target.max_replicas=3",
        "engine.tp=2",
        "engine.max_batch_size=64",
    )
    manifests = render_objects(*words)
    assert set(manifests) == {"RayService", "NetworkPolicy"}
    service = manifests["RayService"]
    cluster = service["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert service["apiVersion"] == "ray.io/v1" and cluster["enableInTreeAutoscaling"] is True
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 3)
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "deployer.ray_serve.application:build"
    target = application["args"]["deployment"]["target"]
    assert (target["kind"], target["max_replicas"], target["address"]) == ("ray_serve", 3, "auto")


def test_pod_templates_of_kserve_and_ray_hold_against_the_schema_of_a_pod() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="has the schemas of Kubernetes").validate
    cluster = render_objects(*ON_GPU, KEYS, "target.form=rayservice")["RayService"]["spec"][
        "rayClusterConfig"
    ]
    templates = [cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]]
    predictor = render_objects(*ON_GPU, "target.form=kserve")["InferenceService"]["spec"]["predictor"]
    own = ("minReplicas", "maxReplicas", "labels")
    templates.append({"spec": {key: value for key, value in predictor.items() if key not in own}})
    for template in templates:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        validate(pod, VERSIONS[-1], strict=True)
