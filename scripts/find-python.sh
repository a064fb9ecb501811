#!/bin/sh
# Prints the newest usable Python >= 3.11: on PATH by name, then pyenv's versions. Usable means that it can make a
# virtual environment (Debian splits that off into python3-venv). CHAOS_PYTHON overrides the search.
probe='
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
import ensurepip, sqlite3, ssl, venv
print("%03d%03d" % sys.version_info[:2])
'
best=""
best_version=0
for candidate in "$CHAOS_PYTHON" python3.14 python3.13 python3.12 python3.11 python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    [ -n "$candidate" ] || continue
    version=$("$candidate" -c "$probe" 2>/dev/null) || continue
    if [ "$candidate" = "$CHAOS_PYTHON" ]; then
        echo "$candidate"
        exit 0
    fi
    if [ "$version" -gt "$best_version" ]; then
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
