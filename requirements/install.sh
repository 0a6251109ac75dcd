#!/bin/sh
# Install one lock and Rheostat itself (editable) into .venv: sh requirements/install.sh demo|dev
#
# Uses uv when it is on PATH, else python -m venv and pip. Every package is a wheel whose hash is
# in the lock; nothing is compiled or fetched beside it. PYTHON=... names the Python to use.
set -eu
cd "$(dirname "$0")/.."
lock="requirements/$1.lock"
python=.venv/bin/python
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON does not run, or is older than 3.11"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

make_venv() {
    found=$(find_python)
    rm -rf .venv
    if command -v uv >/dev/null; then
        # without a Python of its own, uv fetches one
        uv venv --quiet --python "${found:-3.12}" .venv ||
            fail "uv could not make .venv; its message is above"
        return
    fi
    [ -n "$found" ] || fail "no Python 3.11 or newer is on PATH; install one" \
        "(Debian, Ubuntu: apt install python3 python3-venv), name one with PYTHON=/path/to/python," \
        "or install uv, which brings its own"
    if ! problem=$("$found" -m venv .venv 2>&1); then
        rm -rf .venv
        printf '%s\n' "$problem" >&2
        fail "$found cannot make a virtual environment; on Debian and Ubuntu:" \
            "apt install python3-venv (as root), then run the command again"
    fi
}

if ! is_new_enough "$python"; then
    make_venv
fi
echo "Installing $(grep -c '==.* \\$' "$lock") packages from $lock into .venv (only the first time; a minute or two)"
if command -v uv >/dev/null; then
    uv pip install --quiet --python "$python" --require-hashes --only-binary :all: -r "$lock"
    uv pip install --quiet --python "$python" --no-deps --no-build-isolation -e .
else
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null ||
        fail ".venv has no pip and Python cannot add it; on Debian and Ubuntu:" \
            "apt install python3-venv (as root), rm -r .venv, then run the command again"
    "$python" -m pip install --quiet --require-hashes --only-binary :all: -r "$lock"
    "$python" -m pip install --quiet --no-deps --no-build-isolation -e .
fi
