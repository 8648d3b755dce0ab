"""`target.form=kserve` and `kserve_runtime`: our pod as KServe's RawDeployment.

kserve          an InferenceService (`serving.kserve.io/v1beta1`) whose predictor is the pod
kserve_runtime  a ServingRuntime (`v1alpha1`) that holds the container, and an InferenceService that names it,
                for clusters whose models are InferenceServices of a runtime that others look after

KServe makes the Deployment, the Service and the route; scaling stays with the numbers of replicas given.
"""

from deployer.targets.kubernetes_pod import Manifest, PodCase, pod_labels, pod_spec

FORMAT = "vlm-deployer"  # of the model, as runtime and service name it
# What of a pod a ServingRuntime may hold (ServingRuntimePodSpec, KServe 0.21); the service brings the rest.
_OF_A_RUNTIME = ("containers", "volumes", "nodeSelector", "tolerations", "imagePullSecrets")


def inference_service(case: PodCase) -> Manifest:
    """Return the InferenceService whose predictor is the whole pod."""
    return _service(case, _pod(case))


def runtime_and_service(case: PodCase) -> tuple[Manifest, Manifest]:
    """Return the ServingRuntime, and the InferenceService that runs a model on it."""
    pod = _pod(case)
    runtime: Manifest = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "spec": {
            "multiModel": False,
            # The config says which model it is, so no other service may be put on it by its format alone.
            "supportedModelFormats": [{"name": FORMAT, "version": "1", "autoSelect": False}],
            **{key: pod[key] for key in _OF_A_RUNTIME if key in pod},
        },
    }
    rest = {key: value for key, value in pod.items() if key not in _OF_A_RUNTIME}
    model = {"modelFormat": {"name": FORMAT, "version": "1"}, "runtime": case.needs.name}
    return runtime, _service(case, {**rest, "model": model})


def _pod(case: PodCase) -> Manifest:
    pod = pod_spec(case)
    pod["containers"][0]["name"] = "kserve-container"  # the name by which KServe finds the one that serves
    return pod


def _service(case: PodCase, predictor: Manifest) -> Manifest:
    replicas = {"minReplicas": case.target.min_replicas, "maxReplicas": case.target.max_replicas}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"serving.kserve.io/deploymentMode": "RawDeployment"},
        "spec": {"predictor": {**replicas, "labels": pod_labels(case), **predictor}},
    }
