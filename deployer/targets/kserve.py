"""`target.form=kserve`: an InferenceService whose predictor is our pod, as KServe's RawDeployment.

The custom-container form of `serving.kserve.io/v1beta1`: KServe makes the Deployment, the Service and the
route; scaling stays with the numbers of replicas that are given.
"""

from deployer.targets.kubernetes_pod import Manifest, PodCase, pod_spec


def inference_service(case: PodCase) -> Manifest:
    """Return the InferenceService."""
    target = case.target
    pod = pod_spec(case)
    serving = pod["containers"][0]
    serving["name"] = "kserve-container"  # the name by which KServe finds the one that serves
    predictor = {
        "minReplicas": target.min_replicas,
        "maxReplicas": target.max_replicas,
        "labels": {"app.kubernetes.io/name": "vlm-deployer", "app.kubernetes.io/instance": case.needs.name},
        **pod,
    }
    mode = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": mode,
        "spec": {"predictor": predictor},
    }
