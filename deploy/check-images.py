#!/usr/bin/env python3
"""Builds the images of deploy/*.Dockerfile without a container registry, and runs jobs in them.

    make check-images        (as root, on Debian 12 or newer, with Rust by rustup)

The two base images are made here: `debian:bookworm-slim` by debootstrap, `rust:1-bookworm` from
that, a C++ compiler and this machine's Rust. They contain less than the published ones, so a
Dockerfile that builds here does not depend on something that only those happen to contain.

It installs buildah and debootstrap, and RabbitMQ and Redis where none answers on this machine
(deploy/setup.sh). RabbitMQ gets a virtual host, Redis a namespace, for the time of the check.

Everything is below target/images. The base images and Cargo's caches stay there for the next run
(about 4 GB, root's); the images under test are removed, unless --keep is given. --fresh makes new
base images, which then have Debian's latest fixes.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = ROOT / "target/images"
WORK = STATE / "work"
LOGS = STATE / "logs"
DEBIAN = "docker.io/library/debian:bookworm-slim"
RUST = "docker.io/library/rust:1-bookworm"
IMAGES = {"router": "localhost/warmq-router", "worker": "localhost/warmq-worker"}
LIBRARIES = "/opt/libtorch/lib"
# The user of both images: they share /data/files.
USER = 10001
NAME = f"check-images-{os.getpid()}"
# Folders that the published slim image leaves empty.
NOT_IN_SLIM = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"]
SHORT = 60  # s


class Failed(Exception):
    """The images, or this machine, are not as they must be."""


def say(text):
    print(f"check-images: {text}", flush=True)


def proved(text):
    say(f"  ok: {text}")


def command(*words, **options):
    """Returns standard output; a failure raises."""
    done = subprocess.run(
        [str(word) for word in words], stdout=subprocess.PIPE, text=True, **options
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))}: status {done.returncode}")
    return done.stdout.strip()


def logged(name, *words, **options):
    """Runs a long command; its output goes to a log, whose end is printed if it fails."""
    began = time.monotonic()
    log = LOGS / f"{name}.log"
    with open(log, "w") as sink:
        done = subprocess.run(
            [str(word) for word in words], stdout=sink, stderr=subprocess.STDOUT, **options
        )
    if done.returncode != 0:
        print(*log.read_text(errors="replace").splitlines()[-30:], sep="\n", file=sys.stderr)
        raise Failed(f"{name}: status {done.returncode}; the whole log is {log}")
    return f"{time.monotonic() - began:.0f} s"


def storage_of(program):
    """Its storage is below target/images, so that nothing else on the machine is touched."""
    return [program, "--root", STATE / "storage", "--runroot", STATE / "run"]


def buildah(*words, **options):
    return command(*storage_of("buildah"), *words, **options)


def until(what, seconds, condition):
    """Waits for a condition, and returns its first true value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return value


# ---- this machine


def prepare():
    needed = ["buildah", "debootstrap"]
    if missing := [one for one in needed if not shutil.which(one)]:
        say(f"installing {' '.join(missing)} with apt-get")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        command("apt-get", "-qq", "update")
        packages = [*missing, "debian-archive-keyring"]
        logged(
            "apt",
            *("apt-get", "-qq", "install", "-y", "--no-install-recommends"),
            *packages,
            env=environment,
        )
    # The servers of this machine, also where the user's processes use others.
    others = ("WARMQ_AMQP_URL", "WARMQ_REDIS_URL")
    environment = {key: value for key, value in os.environ.items() if key not in others}
    command(ROOT / "deploy/setup.sh", "services", env=environment)


def rustc(*words):
    if not shutil.which("rustc"):
        raise Failed("rustc is missing; with sudo, give it your PATH and HOME")
    return command("rustc", *words, cwd="/")


def rabbitmqctl(*words):
    """Where the host's name resolves to nothing, deploy/setup.sh starts it as rabbit@localhost."""
    known = subprocess.run(["getent", "hosts", os.uname().nodename], capture_output=True)
    node = [] if known.returncode == 0 else ["-n", "rabbit@localhost"]
    return command("rabbitmqctl", "--quiet", *node, *words)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# ---- base images


def label(image, name):
    template = f'{{{{index .OCIv1.Config.Labels "{name}"}}}}'
    done = subprocess.run(
        [*storage_of("buildah"), "inspect", "--type", "image", "--format", template, image],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def commit(container, image, made_of):
    buildah("config", "--label", f"check-images={made_of}", container)
    buildah("commit", "--quiet", container, image)
    buildah("rm", container)


def chroot(*words):
    """Options of a step in a container that needs no privileges beyond root's."""
    return ["run", "--isolation", "chroot", *words]


def make_debian():
    if label(DEBIAN, "check-images") == "debootstrap":
        return
    say("making debian:bookworm-slim with debootstrap")
    container = buildah("from", "scratch")
    base = pathlib.Path(buildah("mount", container))
    logged("debootstrap", "debootstrap", "--variant=minbase", "bookworm", base)

    apt = base / "etc/apt"
    sources = apt / "sources.list"
    # The published image has the updates, too.
    site = sources.read_text().split()[1]
    sources.write_text(
        f"deb {site} bookworm main\ndeb {site} bookworm-updates main\n"
        f"deb {site}-security bookworm-security main\n"
    )
    # How this machine reaches Debian's packages: proxies, for example.
    options = command("apt-config", "dump", "Acquire")
    (apt / "apt.conf.d/99machine").write_text(options + "\n")
    # As in the published image: apt's caches, 80 MB, would be part of the images under test.
    no_caches = 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
    (apt / "apt.conf.d/docker-clean").write_text(no_caches)
    excluded = "".join(f"path-exclude=/{folder}/*\n" for folder in NOT_IN_SLIM)
    (base / "etc/dpkg/dpkg.cfg.d/slim").write_text(excluded)
    for folder in [*NOT_IN_SLIM, "var/lib/apt/lists", "var/cache/apt/archives"]:
        for path in (base / folder).iterdir():
            is_folder = path.is_dir() and not path.is_symlink()
            shutil.rmtree(path) if is_folder else path.unlink()

    buildah("config", "--cmd", "bash", container)
    commit(container, DEBIAN, "debootstrap")


def make_rust():
    version = rustc("--version")
    if label(RUST, "check-images") == version:
        return
    say(f"making rust:1-bookworm with {version}")
    toolchain = pathlib.Path(rustc("--print", "sysroot"))
    if not (toolchain / "bin/cargo").exists():
        raise Failed(f"{toolchain} is no toolchain of rustup's, which could be copied")
    container = buildah("from", "--pull-never", DEBIAN)
    base = pathlib.Path(buildah("mount", container))
    # What a private mirror or an inspecting proxy requires stays in this image, of which the
    # images under test receive programs only.
    authorities = "usr/local/share/ca-certificates"
    if pathlib.Path("/", authorities).is_dir():
        shutil.copytree(pathlib.Path("/", authorities), base / authorities, dirs_exist_ok=True)
    script = """
        apt-get update
        apt-get install -y --no-install-recommends ca-certificates g++ make
        rm -rf /var/lib/apt/lists/*
    """
    words = chroot(container, "sh", "-euc", script)
    logged("rust-base", *storage_of("buildah"), *words)

    rust, cargo = base / "usr/local/rustup", base / "usr/local/cargo"
    for folder in ("bin", "lib", "libexec"):
        if (toolchain / folder).is_dir():
            shutil.copytree(toolchain / folder, rust / folder, symlinks=True)
    (cargo / "bin").mkdir(parents=True)
    for program in (rust / "bin").iterdir():
        (cargo / "bin" / program.name).symlink_to(f"/usr/local/rustup/bin/{program.name}")
    home = pathlib.Path.home()
    cargo_home = pathlib.Path(os.environ.get("CARGO_HOME", home / ".cargo"))
    for source, target in [
        (cargo_home / "config.toml", cargo / "config.toml"),
        (pathlib.Path("/etc/pip.conf"), base / "etc/pip.conf"),
        (home / ".config/pip/pip.conf", base / "etc/pip.conf"),
    ]:
        if source.exists():
            shutil.copy(source, target)

    environment = {
        "CARGO_HOME": "/usr/local/cargo",
        "PATH": "/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",  # pip has its own list otherwise
    }
    registries = re.compile(r"PIP_\w*(URL|HOST)|CARGO_(NET|REGISTR)\w*")
    environment |= {key: value for key, value in os.environ.items() if registries.fullmatch(key)}
    for key, value in environment.items():
        buildah("config", "--env", f"{key}={value}", container)
    commit(container, RUST, version)


# ---- the images under test


def size(image):
    (found,) = json.loads(buildah("images", "--json", image))
    return found["size"]


def build(name):
    say(f"building deploy/{name}.Dockerfile as it is; log: {LOGS / name}.log")
    # Cache mounts are below TMPDIR; they stay for the next run.
    took = logged(
        name,
        *("nice", "-n", "10", *storage_of("buildah"), "build", "--isolation", "chroot"),
        *("--pull-never", "--file", f"deploy/{name}.Dockerfile"),
        *("--tag", IMAGES[name], "."),
        cwd=ROOT,
    )
    proved(f"built in {took}: {size(IMAGES[name])}, of which Debian {size(DEBIAN)}")


class Container:
    """A container of an image. It has the machine's network and process ids."""

    def __init__(self, image):
        self.image = image
        self.id = buildah("from", "--pull-never", IMAGES[image])
        self.root = pathlib.Path(buildah("mount", self.id))
        config = json.loads(buildah("inspect", self.id))["OCIv1"]["config"]
        self.entrypoint = config["Entrypoint"]
        if config["User"] != str(USER):
            raise Failed(f"the {image}'s user is {config['User']}, not {USER}")

    def words(self, words, **settings):
        """Runs with the image's user, environment and folder, as the options say otherwise."""
        options = []
        for key, value in settings.items():
            options += [f"--{key}", value]
        shared = ["-v", f"{WORK}/files:/data/files", "-v", f"{WORK}/own:/own"]
        return [*storage_of("buildah"), *chroot(*options, *shared, self.id, "--", *words)]

    def run(self, *words, **settings):
        """Returns standard output; a failure raises."""
        done = subprocess.run(
            [str(word) for word in self.words(words, **settings)], capture_output=True, text=True
        )
        if done.returncode != 0:
            output = done.stdout + done.stderr
            raise Failed(f"{self.image}: {words[0]} ended with {done.returncode}: {output}")
        return done.stdout.strip()

    def status(self, *words, **settings):
        """Returns the exit status and all output."""
        done = subprocess.run(
            [str(word) for word in self.words(words, **settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    @contextlib.contextmanager
    def started(self, *arguments, **settings):
        """Runs the image's entry point until the end of the block, at the latest."""
        process = Process(self, arguments, settings)
        try:
            yield process
        finally:
            process.end()


class Process:
    """A program in a container, started by the image's entry point."""

    def __init__(self, container, arguments, settings):
        self.name = container.image
        own = f"own/{self.name}.pid"
        (WORK / own).unlink(missing_ok=True)
        # buildah's own process is not the program's; `exec` keeps the id that is written here.
        script = f'echo $$ >/{own} && exec "$@"'
        words = ["sh", "-c", script, "sh", *container.entrypoint, *arguments]
        self.log = LOGS / f"{self.name}-run.log"
        with open(self.log, "w") as sink:
            self.buildah = subprocess.Popen(
                [str(word) for word in container.words(words, **settings)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C ends it by end() below
            )
        until(f"start of the {self.name}", SHORT, lambda: (WORK / own).exists() or self.ended())
        if not (WORK / own).exists():
            raise Failed(self.end_of_log())
        self.pid = int(until("its id", SHORT, (WORK / own).read_text))

    def ended(self):
        return self.buildah.poll() is not None

    def check_alive(self):
        if self.ended():
            raise Failed(self.end_of_log())

    def end_of_log(self):
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n".join([f"the {self.name} ended with {self.buildah.returncode}:", *lines])

    def user(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return {int(word) for word in re.search(r"^Uid:(.*)", status, re.M)[1].split()}

    def program(self):
        return pathlib.Path(os.readlink(f"/proc/{self.pid}/exe")).name

    def terminate(self):
        """Sends SIGTERM, and returns how long the end took; only status 0 is a good end."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        until(f"end of the {self.name}", SHORT, self.ended)
        if self.buildah.returncode != 0:
            raise Failed(self.end_of_log())
        return f"{time.monotonic() - began:.1f} s"

    def end(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.ended():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.buildah.wait(SHORT)


# ---- what compose.yaml gives them


def compose(service):
    """Returns the text of a service. A YAML parser is not part of Python."""
    text = (ROOT / "deploy/compose.yaml").read_text()
    found = re.search(rf"^  {service}:.*\n((?:(?:    .*)?\n)+)", text, re.M)
    return found[1]


def list_of(service, key):
    """Returns a list in brackets, whose texts have JSON's quotes."""
    found = re.search(rf"^ +{key}: (\[.*\])$", compose(service), re.M)
    return [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in json.loads(found[1])]


def compose_flags(port):
    """The flags of both services, on loopback and a port of this check."""
    address = re.compile(r"(0\.0\.0\.0|127\.0\.0\.1):8080")
    router = [address.sub(f"127.0.0.1:{port}", word) for word in list_of("router", "command")]
    metrics = f"127.0.0.1:{free_port()}"
    worker = re.findall(r"^ +- (--\S+)", compose("worker"), re.M)
    worker = [word.replace("0.0.0.0:9102", metrics) for word in worker]
    return router, worker, f"http://{metrics}/healthz"


# ---- checks


def check_files(container):
    """Libraries, owners and modes."""
    root = container.root
    programs = sorted((root / "usr/local/bin").iterdir())
    libraries = sorted((root / LIBRARIES.lstrip("/")).glob("*.so*"))
    inside = [f"/{path.relative_to(root)}" for path in [*programs, *libraries]]
    _, linked = container.status("ldd", *inside)
    if missing := [line for line in linked.splitlines() if "not found" in line]:
        raise Failed(f"missing shared libraries: {missing}")

    found = command("find", root, "-xdev", "(", "-uid", USER, "-o", "-gid", USER, ")")
    if found.split() != [f"{root}/data/files"]:
        raise Failed(f"user {USER} owns more, or less, than /data/files: {found}")
    unknown = "( -path /proc -o -path /sys -o -path /dev -o -path /own ) -prune -o"
    test = "( -nouser -o -nogroup ) -print"
    if found := container.run("find", "/", *unknown.split(), *test.split(), user="0"):
        raise Failed(f"files of unknown owners: {found}")
    ours = [f"/{name}" for name in ("usr/local/bin", "opt", "models") if (root / name).exists()]
    test = "! -type l ( ! -readable -o -writable )"
    if found := container.run("find", *ours, *test.split()):
        raise Failed(f"files that the user cannot read, or can write: {found}")

    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in programs)
    proved(f"{container.image}: {sizes}; all shared libraries found, files owned as intended")


def check_trust(container, port):
    """The programs trust the authorities of Debian's package, and no others."""
    authorities = container.run("grep", "-c", "BEGIN", "/etc/ssl/certs/ca-certificates.crt")
    if int(authorities) < 100:
        raise Failed(f"only {authorities} certificate authorities")
    script = """
        set -e; cd /own
        new='req -newkey rsa:2048 -nodes'
        openssl $new -x509 -days 2 -subj /CN=check-images -keyout ca.key -out ca.pem
        openssl $new -subj /CN=router -keyout key.pem -out request.pem
        echo 'subjectAltName = IP:127.0.0.1' >extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 \\
            -extfile extensions -out cert.pem
    """
    status, output = container.status("sh", "-c", script)
    if status != 0:
        raise Failed(f"certificates: {output}")
    tls = ["--tls-cert", "/own/cert.pem", "--tls-key", "/own/key.pem"]
    with container.started(*SERVERS, "--listen", f"127.0.0.1:{port}", *tls) as router:
        listing = ["warmq", "--url", f"https://127.0.0.1:{port}", "apps"]

        def refused():
            router.check_alive()
            status, output = container.status(*listing)
            return output if "ertificate" in output and status != 0 else None

        until("refusal of an unknown authority", SHORT, refused)
        trust = "cp /own/ca.pem /usr/local/share/ca-certificates/own.crt && update-ca-certificates"
        container.run("sh", "-c", trust, user="0", env="PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        container.run(*listing)
        router.terminate()
    proved(f"TLS: {authorities} authorities; another is refused, and trusted once installed")


def check_commands(container):
    """The worker's commands that need no server."""
    listed = container.run("warmq-worker", "models", "check", "/models")
    for model in ("digits", "landscapes", "shapes"):
        if model not in listed:
            raise Failed(f"models check lists no {model}: {listed}")
    proved("warmq-worker models check /models: three models, status 0")
    prompt = ["--prompt", "a red circle on a blue background", "--seed", "7"]
    container.run(
        *("warmq-worker", "generate", "--models", "/models", "--model", "shapes"),
        *(*prompt, "--out", "/own/generated.png"),
    )
    proved(f"warmq-worker generate: {picture(WORK / 'own/generated.png')}")


def picture(path):
    """Describes a PNG file whose rows decode and are not of one colour."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Failed(f"{path} is no PNG")
    chunks, at = {}, 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        checksum = int.from_bytes(data[at + 8 + length : at + 12 + length], "big")
        if checksum != zlib.crc32(kind + content):
            raise Failed(f"{path} is damaged")
        chunks[kind] = chunks.get(kind, b"") + content
        at += 12 + length
    width, height = (int.from_bytes(chunks[b"IHDR"][at : at + 4], "big") for at in (0, 4))
    rows = zlib.decompress(chunks[b"IDAT"])
    colours = len(set(rows))
    if len(rows) % height or colours < 32:
        raise Failed(f"{path} shows next to nothing: {len(rows)} bytes, {colours} values")
    owner = path.stat().st_uid
    if owner != USER:
        raise Failed(f"{path} was written by user {owner}")
    return f"a picture of {width} × {height}, {colours} values"


def api(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SHORT) as response:
        return json.load(response)


def answers(url):
    """Returns whether the status is 200."""
    try:
        with urllib.request.urlopen(url, timeout=SHORT):
            return True
    except OSError:
        return False


def check_jobs(router_container, worker_container, port):
    """A job by the command line, with the flags and health check of compose.yaml; then SIGTERM."""
    url = f"http://127.0.0.1:{port}"
    router_flags, worker_flags, worker_health = compose_flags(port)
    kind, *health = list_of("router", "test")
    if kind != "CMD":
        raise Failed("the router's health check in compose.yaml is no CMD")
    health = [word.replace("/8080", f"/{port}") for word in health]
    cli = Container("router")

    with (
        router_container.started(*SERVERS, *router_flags) as router,
        worker_container.started(*SERVERS, *worker_flags) as worker,
    ):

        def healthy():
            router.check_alive()
            return cli.status(*health)[0] == 0

        until("health of the router", SHORT, healthy)
        if not answers(f"{url}/readyz"):
            raise Failed("/readyz is not 200 although the health check passes")

        def registered():
            worker.check_alive()
            return answers(worker_health) and api(f"{url}/v1/runners")["runners"]

        until("registration of the worker", SHORT, registered)
        for process in (router, worker):
            if process.user() != {USER}:
                raise Failed(f"the {process.name} runs as {process.user()}")
        programs = f"{router.program()} and {worker.program()}"
        proved(f"{programs} run as user {USER}, with compose's flags")
        proved("/readyz and the worker's /healthz are 200, and compose's health check passes")

        submit = ["warmq", "--url", url, "submit", "warmq/diffusion", "--save", "/own"]
        job = {"model": "shapes", "prompt": "a red circle on a blue background"}
        cli.run(*submit, "--input", json.dumps(job))
        (saved,) = set((WORK / "own").glob("*.png")) - {WORK / "own/generated.png"}
        proved(f"warmq submit --save: {picture(saved)}")

        # It takes a second: long enough to be running when the worker receives SIGTERM.
        job = {"model": "digits", "prompt": "a handwritten seven", "steps": 200}
        queued = api(f"{url}/queue/warmq/diffusion", job)
        request = f"{url}/queue/warmq/diffusion/requests/{queued['request_id']}"
        until("start of the job", SHORT, lambda: state(request) != "IN_QUEUE")
        if state(request) != "IN_PROGRESS":
            raise Failed(f"the job ended before SIGTERM: {state(request)}")
        took = worker.terminate()
        until("end of the job", 5, lambda: state(request) == "COMPLETED")
        if not api(request)["images"]:
            raise Failed("the job that ran at SIGTERM has no picture")
        proved(f"SIGTERM: the worker completed its job and ended with 0 after {took}")
        proved(f"SIGTERM: the router ended with 0 after {router.terminate()}")


def state(request):
    return api(f"{request}/status")["status"]


SERVERS = [
    *("--amqp-url", f"amqp://guest:guest@127.0.0.1:5672/{NAME}"),
    *("--redis-url", "redis://127.0.0.1:6379/0"),
    *("--namespace", NAME, "--storage", "file:///data/files"),
]


@contextlib.contextmanager
def servers():
    """A virtual host and a namespace of our own, which leave nothing behind."""
    rabbitmqctl("add_vhost", NAME)
    try:
        rabbitmqctl("set_permissions", "-p", NAME, "guest", ".*", ".*", ".*")
        yield
    finally:
        rabbitmqctl("delete_vhost", NAME)
        redis = ["redis-cli", "-h", "127.0.0.1", "-p", "6379"]
        if keys := command(*redis, "--scan", "--pattern", f"{NAME}:*").split():
            command(*redis, "unlink", *keys)


def check():
    shutil.rmtree(WORK, ignore_errors=True)
    for name in ("files", "own"):
        (WORK / name).mkdir(parents=True)
        os.chown(WORK / name, USER, USER)
    router, worker = Container("router"), Container("worker")
    check_files(router)
    check_files(worker)
    check_commands(worker)
    with servers():
        port = free_port()
        check_jobs(router, worker, port)
        check_trust(router, port)


def clean(keep):
    """Removes containers, images under test, and the mounts that buildah leaves."""
    with contextlib.suppress(Failed):
        buildah("rm", "--all")
    if not keep:
        for image in IMAGES.values():
            subprocess.run([*storage_of("buildah"), "rmi", image], capture_output=True)
        with contextlib.suppress(Failed):
            buildah("rmi", "--prune")
        shutil.rmtree(WORK, ignore_errors=True)
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    for mount in reversed([line.split()[1] for line in mounts]):
        if mount.startswith(f"{STATE}/"):
            subprocess.run(["umount", mount])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="keep the images under test")
    parser.add_argument("--fresh", action="store_true", help="make new base images")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit(
            "check-images: root is required, for chroot and to install packages:\n"
            '    sudo env PATH="$PATH" HOME="$HOME" make check-images'
        )
    began = time.monotonic()
    for folder in (LOGS, STATE / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(STATE / "tmp")
    os.umask(0o022)
    try:
        prepare()
        if arguments.fresh:
            buildah("rmi", "--all", "--force")
        make_debian()
        make_rust()
        build("router")
        build("worker")
        check()
    except Failed as failure:
        sys.exit(f"check-images: FAILED: {failure}")
    finally:
        clean(arguments.keep)
    say(f"all passed in {(time.monotonic() - began) / 60:.0f} min")


if __name__ == "__main__":
    main()
