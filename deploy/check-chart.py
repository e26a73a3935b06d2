"""Checks the Helm chart in deploy/chart: `.venv-lint/bin/python deploy/check-chart.py HELM`.

Renders it with its own values, with each file of deploy/chart/ci and with the example in
docs/operations.md, and compares the objects with the schemas of Kubernetes and KEDA and with what
warmq's programs read. No cluster is needed.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/chart"

# The oldest version that Chart.yaml allows, and the newest with schemas here.
KUBERNETES = ["1.25", "1.37"]

# Values that are refused, and a part of the reason in lower case.
REFUSED = {
    "storage.url=file:///data/files": "storage.claim",
    "storage.url=ftp://files": "does not match pattern",
    "apps[0].app=Warmq/Diffusion": "does not match pattern",
    "apps[0].app=warmq": "does not match pattern",
    "apps[0].gpu=2": "gpu",
    "apps[0].gpus=1": "gpus",
    "apps[0].app=a/b,apps[0].name=router": "the routers'",
    "apps[0].app=a/b-c,apps[1].app=a-b/c": "have the same name",
    "apps[0].app=a/b,apps[0].scaling.min=2,apps[0].scaling.max=1": "min exceeds max",
    "apps[0].app=a/b,apps[0].settings.run_timeout=9": "run_timeout",
    "settings.redis_url=redis://:secret@host": "redis_url",
    "ingress.enabled=true": "ingress",
}


def helm(*args):
    done = subprocess.run([HELM, *args], capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def render(*args):
    code, text = helm("template", "warmq", str(CHART), "--namespace", "images", *args)
    return [one for one in yaml.safe_load_all(text) if one] if code == 0 else sys.exit(text)


def matches_its_schema(manifest):
    if manifest["apiVersion"].startswith("keda.sh/"):
        # The models accept unknown fields, so what they read must be all that there is.
        model = getattr(keda, manifest["kind"]).model_validate(manifest)
        read = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert read == manifest, f"KEDA reads {read} of {manifest}"
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)


def containers(manifests):
    for one in manifests:
        if one["kind"] == "Deployment":
            yield one, one["spec"]["template"]["spec"]


def uses_documented_settings(manifests):
    """Flags and variables of the containers are those of docs/configuration.md."""
    documented = (ROOT / "docs/configuration.md").read_text()
    for one, pod in containers(manifests):
        container = pod["containers"][0]
        for arg in container["args"]:
            flag = arg.partition("=")[0]
            assert flag == "--config" or f"`{flag}`" in documented, f"no program has {flag}"
        for variable in container["env"]:
            name = variable["name"]
            flag = "--" + name.removeprefix("WARMQ_").lower().replace("_", "-")
            known = f"`{flag}`" in documented or f"`{name}" in documented
            known = known or name.startswith(("AWS_", "NVIDIA_")) or name == "HOME"
            known = known or name == "XDG_CACHE_HOME" and name in documented
            assert known, f"no program reads {name}"


def fits_the_image(manifests):
    """User, ports and folders are those of the Dockerfiles."""
    for one, pod in containers(manifests):
        container = pod["containers"][0]
        dockerfile = (ROOT / f"deploy/{container['name']}.Dockerfile").read_text()
        assert f"USER {pod['securityContext']['runAsUser']}\n" in dockerfile
        assert f'ENTRYPOINT ["warmq-{container["name"]}"]' in dockerfile
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for folder in mounted - {"/etc/warmq", "/cache", "/tmp"}:
            assert folder in dockerfile, f"{folder} is no folder of the image"
        port = container["ports"][0]
        flag = {"router": "--listen", "worker": "--metrics-listen"}[container["name"]]
        assert f"{flag}=0.0.0.0:{port['containerPort']}" in container["args"]


def ends_after_its_jobs(manifests):
    """run_timeout < drain < time until SIGKILL, so no job is interrupted."""
    (config,) = [one for one in manifests if one["kind"] == "ConfigMap"]
    apps = tomllib.loads(config["data"]["warmq.toml"])["apps"]
    workers = 0
    for one, pod in containers(manifests):
        flags = dict(arg.split("=", 1) for arg in pod["containers"][0]["args"])
        drain, grace = int(flags["--drain-timeout-s"]), pod["terminationGracePeriodSeconds"]
        if "--app" in flags:
            workers += 1
            assert apps[flags["--app"]]["run_timeout"] < drain <= grace - 30, one
        else:
            assert drain < grace, one
    assert workers == len(apps)


def selects_what_exists(manifests):
    """Selectors find pods, and references between objects lead to objects."""
    pods = [one["spec"]["template"] for one, _ in containers(manifests)]
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    assert len(names) == len(manifests), "two objects have the same name"
    for one in manifests:
        kind, spec = one["kind"], one.get("spec", {})
        selector = spec.get("selector", {})
        wanted = selector.get("matchLabels", selector).items()
        if wanted:
            found = [pod for pod in pods if wanted <= pod["metadata"]["labels"].items()]
            assert len(found) == 1, f"{kind} {one['metadata']['name']} selects {len(found)}"
        if kind == "ScaledObject":
            (target,) = [
                deployment
                for deployment, _ in containers(manifests)
                if deployment["metadata"]["name"] == spec["scaleTargetRef"]["name"]
            ]
            assert "replicas" not in target["spec"], "helm upgrade would undo KEDA's number"
            (trigger,) = spec["triggers"]
            assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in names
            host, port, app = re.fullmatch(
                r"http://([a-z-]+)\.images\.svc:(\d+)/v1/apps/([a-z/_-]+)",
                trigger["metadata"]["url"],
            ).groups()
            (service,) = [one for one in manifests if one["kind"] == "Service"]
            assert service["metadata"]["name"] == host
            assert service["spec"]["ports"][0]["port"] == int(port)
            assert f"--app={app}" in target["spec"]["template"]["spec"]["containers"][0]["args"]
        assert kind != "Secret", "secrets come from outside"


def example():
    """Returns the values in docs/operations.md."""
    text = (ROOT / "docs/operations.md").read_text()
    return text.partition("cat >values.yaml <<'END'\n")[2].partition("\nEND\n")[0]


def main():
    with tempfile.TemporaryDirectory() as folder:
        documented = pathlib.Path(folder) / "docs/operations.md"
        documented.parent.mkdir()
        documented.write_text(example())
        check_renderings([None, *sorted((CHART / "ci").glob("*.yaml")), documented])
    for setting, reason in REFUSED.items():
        code, text = helm("template", "warmq", str(CHART), "--set", setting)
        assert code != 0 and reason in text.lower(), f"--set {setting}: {text}"
    print(f"{len(REFUSED)} mistakes are refused")


def check_renderings(all_values):
    for values in all_values:
        args = ["-f", str(values)] if values else []
        code, text = helm("lint", "--strict", "--quiet", str(CHART), *args)
        assert code == 0, text
        manifests = render(*args)
        for manifest in manifests:
            matches_its_schema(manifest)
        for check in CHECKS:
            check(manifests)
        print(f"{values.name if values else 'values.yaml'}: {len(manifests)} objects are valid")


CHECKS = [uses_documented_settings, fits_the_image, ends_after_its_jobs, selects_what_exists]

if __name__ == "__main__":
    (HELM,) = sys.argv[1:]
    main()
