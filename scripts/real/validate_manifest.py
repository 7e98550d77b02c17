"""Says of each document of a manifest on standard input whether it is valid, without a cluster.

What Kubernetes itself defines is held against its own schemas, unknown keys refused (kubernetes-validate). JobSet and
TrainJob are read by the models of kubeflow-trainer-api, and must come out of them as they went in: a key that the models
do not know would be missing. The Job in a JobSet is held against Kubernetes' schema, too.

Exit code 1 when a document is not valid.
"""

import sys

import kubernetes_validate
import yaml
from kubeflow_trainer_api import models
from pydantic import ValidationError

MODELS = {
    "jobset.x-k8s.io/v1alpha2 JobSet": models.JobsetV1alpha2JobSet,
    "trainer.kubeflow.org/v1alpha1 TrainJob": models.TrainerV1alpha1TrainJob,
}


def lost(given, read, key=""):
    """The first key whose value a model did not keep."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            if name not in read:
                return f"{key}.{name}"
            if found := lost(value, read[name], f"{key}.{name}"):
                return found
        return None
    if isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        return next((found for i, pair in enumerate(zip(given, read)) if (found := lost(*pair, f"{key}[{i}]"))), None)
    return None if given == read else key


def native(document):
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def check(document):
    """What is wrong with a document; None when nothing is."""
    model = MODELS.get(f"{document.get('apiVersion')} {document.get('kind')}")
    try:
        if model is None:
            native(document)
            return None
        read = model.from_dict(document).to_dict()
        if key := lost(document, read):
            return f"{key}: the model does not know it, or another value"
        for replicated in document["spec"].get("replicatedJobs", []):
            native({"apiVersion": "batch/v1", "kind": "Job", **replicated["template"]})
    except (kubernetes_validate.ValidationError, ValidationError, ValueError) as error:
        return str(error)
    return None


def main():
    sound = True
    for document in yaml.safe_load_all(sys.stdin):
        problem = check(document)
        print(f"{document.get('kind')}: {problem or 'valid'}")
        sound = sound and problem is None
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
