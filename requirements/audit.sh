#!/bin/sh
# Look up what the locks pin in the lists of known vulnerabilities: sh requirements/audit.sh
#
# Status 1 when one is found. Where the lists cannot be reached nothing is known: that is said, and
# is no failure.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
unreached='ConnectionError|ConnectTimeout|ReadTimeout|Max retries exceeded|NewConnectionError|ServiceError|HTTPError|Name or service not known|Temporary failure in name resolution'
status=0
for lock in server demo dev; do
    if said=$("$python" -m pip_audit --disable-pip --require-hashes --progress-spinner off \
        --timeout 15 -r "requirements/$lock.lock" 2>&1); then
        missed=$(printf '%s\n' "$said" | grep -c 'could not be audited' || true)
        if [ "$missed" -gt 0 ]; then
            echo "requirements/$lock.lock: $missed packages not looked up, the lists do not have them"
        else
            echo "requirements/$lock.lock: no known vulnerabilities"
        fi
    elif ! printf '%s\n' "$said" | grep -Eq '^Found [0-9]+ known vulnerabilit' &&
        printf '%s\n' "$said" | grep -Eq "$unreached"; then
        echo "requirements/$lock.lock: not looked up, the lists cannot be reached"
    else
        printf 'requirements/%s.lock:\n%s\n' "$lock" "$said" >&2
        status=1
    fi
done
exit "$status"
