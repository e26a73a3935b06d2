#!/bin/sh
# Assembles libtorch from the wheels on PyPI, so that a plain `cargo build` finds it.
#
#   deploy/setup-libtorch.sh [--cuda] [DEST]
#
# DEST is .libtorch beside this repository's Cargo.toml (CPU, 0.5 GB on disk) or .libtorch-cuda
# (every CUDA library, 4 GB). The result has libtorch's usual shape:
#
#   DEST/include/         the C++ headers
#   DEST/lib/             the shared libraries; they find each other through their own $ORIGIN
#   DEST/build-version    e.g. 2.11.0+cpu; torch-sys checks it, and so does the next run of this script
#
# DEST appears in one `mv`, whole or not at all: an interrupted run is simply done again.
set -eu

TORCH=2.11.0 # what tch 0.24 binds; the CUDA 13.0 wheel, of which the CPU folder keeps the CPU half

say() { printf 'libtorch: %s\n' "$*"; }
die() {
    printf 'libtorch: %s\n' "$*" >&2
    exit 1
}

root=$(cd "$(dirname "$0")/.." && pwd)
flavour=cpu
dest=
while [ $# -gt 0 ]; do
    case $1 in
    --cuda) flavour=cu130 ;;
    -h | --help)
        sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) die "unknown option $1 (usage: $0 [--cuda] [DEST])" ;;
    *) dest=$1 ;;
    esac
    shift
done
version=$TORCH+$flavour

# `--cuda` and DEST say what to assemble; without them, a LIBTORCH of the user's own is respected.
if [ -n "${LIBTORCH:-}" ] && [ -z "$dest" ] && [ $flavour = cpu ]; then
    say "LIBTORCH is set to $LIBTORCH; using that"
    exit 0
fi
if [ -z "$dest" ]; then
    dest=$root/.libtorch
    [ $flavour = cpu ] || dest=$root/.libtorch-cuda
fi
mkdir -p "$(dirname "$dest")"
dest=$(cd "$(dirname "$dest")" && pwd)/$(basename "$dest")

if [ "$(cat "$dest/build-version" 2>/dev/null)" = "$version" ]; then
    say "$version is already in $dest"
    exit 0
fi
if [ -e "$dest" ] && [ ! -e "$dest/build-version" ] && [ -n "$(ls -A "$dest")" ]; then
    die "$dest exists and was not made by this script; remove it, or name another folder"
fi

[ "$(uname -s)" = Linux ] || die "only Linux is assembled here; install libtorch $TORCH and set LIBTORCH"
arch=$(uname -m)
case $arch in
x86_64 | aarch64) ;;
*) die "PyPI has no torch $TORCH for $arch; set LIBTORCH to a build of your own" ;;
esac
command -v python3 >/dev/null || die "Python 3 is missing (Debian: apt-get install python3 python3-venv)"

work=$(mktemp -d "$dest.XXXXXX") # beside DEST: the same file system, so that mv only renames
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if python3 -m pip --version >/dev/null 2>&1; then
    python=python3
elif python3 -m venv "$work/venv" >/dev/null 2>&1; then
    python=$work/venv/bin/python
else
    die "this Python has neither pip nor venv (Debian: apt-get install python3-venv)"
fi

# Wheels are fetched for one fixed Python, whichever runs pip: only their C++ half is used.
platforms="--platform manylinux2014_$arch --platform manylinux2010_$arch --platform manylinux1_$arch"
glibc=28 # pip takes no "up to": every version that a wheel may ask for is named
while [ $glibc -ge 5 ]; do
    platforms="$platforms --platform manylinux_2_${glibc}_$arch"
    glibc=$((glibc - 1))
done
fetch() {
    # shellcheck disable=SC2086 # one option per word is the point
    "$python" -m pip download --disable-pip-version-check --only-binary=:all: --python-version 3.11 \
        --implementation cp $platforms --dest "$work/wheels" "$@"
}

if [ $flavour = cpu ]; then
    say "1/3 downloading torch $TORCH and the two CUDA libraries that its CPU half is linked to (0.6 GB)"
    fetch --no-deps "torch==$TORCH" 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*'
else
    say "1/3 downloading torch $TORCH and its CUDA libraries (2.5 GB)"
    fetch --no-deps "torch==$TORCH"
    # The wheel's own list of what it runs on, less Triton, which only torch.compile uses.
    "$python" - "$work/wheels" >"$work/requirements" <<'PYTHON'
import pathlib, sys, zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("torch-*.whl")
with zipfile.ZipFile(wheel) as archive:
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    for line in archive.read(metadata).decode().splitlines():
        key, _, requirement = line.partition(": ")
        if key == "Requires-Dist" and requirement.startswith(("nvidia-", "cuda-toolkit")):
            print(requirement)
PYTHON
    fetch --requirement "$work/requirements"
fi

say "2/3 unpacking headers and libraries"
"$python" - "$work/wheels" "$work/libtorch" $flavour <<'PYTHON'
"""Moves what a C++ program needs out of the wheels; each wheel is deleted once it is unpacked."""
import pathlib, shutil, sys, zipfile

wheels, out, flavour = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
CPU = {"libc10.so", "libtorch_cpu.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}


def place(member):
    """Where a member of a wheel belongs in libtorch, or None for all that Python alone needs."""
    path = pathlib.PurePosixPath(member)
    if path.parts[:2] == ("torch", "include"):
        return path.relative_to("torch")
    if path.parent.name == "lib" and ".so" in path.name and "python" not in path.name:
        if flavour != "cpu" or path.name in CPU or path.parts[0].endswith(".libs"):
            return pathlib.PurePosixPath("lib") / path.name
    return None


for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            target = place(member)
            if target is None or member.endswith("/"):
                continue
            target = out / target
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    wheel.unlink()
    print(f"libtorch:     {wheel.name}", flush=True)
PYTHON
if [ $flavour = cpu ]; then
    # torch-sys links `-ltorch`, in the wheel an empty library that pulls in the CUDA half. This
    # linker script answers the name with the CPU half; nothing loads it at run time.
    printf '/* GNU ld script */\nINPUT(libtorch_cpu.so)\n' >"$work/libtorch/lib/libtorch.so"
fi

say "3/3 checking that it loads"
"$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$work/libtorch/lib/libtorch_cpu.so" ||
    die "libtorch_cpu.so does not load; the line above names what is missing"
printf '%s\n' "$version" >"$work/libtorch/build-version"
rm -rf "$dest"
mv "$work/libtorch" "$dest"
say "$version is ready in $dest"
