#!/bin/sh
# Prints the newest usable Python >= 3.11, or with the argument "oldest" the oldest: on PATH by name, then pyenv's
# versions. Usable means that it can make a virtual environment (Debian splits that off into python3-venv).
# CHAOS_PYTHON overrides the search for the newest.
probe='
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
import ensurepip, sqlite3, ssl, venv
print("%03d%03d" % sys.version_info[:2])
'
wanted=${1:-newest}
if [ "$wanted" = newest ] && [ -n "$CHAOS_PYTHON" ] && "$CHAOS_PYTHON" -c "$probe" >/dev/null 2>&1; then
    echo "$CHAOS_PYTHON"
    exit 0
fi
best=""
best_version=0
for candidate in python3.14 python3.13 python3.12 python3.11 python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    version=$("$candidate" -c "$probe" 2>/dev/null) || continue
    if [ -z "$best" ] ||
        { [ "$wanted" = newest ] && [ "$version" -gt "$best_version" ]; } ||
        { [ "$wanted" = oldest ] && [ "$version" -lt "$best_version" ]; }; then
        best=$candidate
        best_version=$version
    fi
done
if [ -z "$best" ]; then
    echo "chaos needs Python 3.11 or newer with the venv module; none was found." >&2
    echo "Install one (Debian: apt install python3 python3-venv) or set CHAOS_PYTHON=/path/to/python3." >&2
    exit 1
fi
echo "$best"
