#!/bin/bash
# make test: Debian packages, lint, types, contracts, Django's checks, then every test in random order.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
declare -A packages=(
  [chromium]=chromium [msgfmt]=gettext [xgettext]=gettext
  [node]=nodejs [npm]=npm [profanity]=profanity [tmux]=tmux [prosody]=prosody [ejabberdctl]=ejabberd
  [sipp]=sip-tester [slapd]=slapd [xmlsec1]=xmlsec1
)
missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
[ -e /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc ] || missing+=(fonts-noto-cjk)
compgen -G '/usr/lib/*/lua/*/lunbound.so' >/dev/null || missing+=(lua-unbound) # Prosody asks the tests' name server
if [ ${#missing[@]} -gt 0 ] && [ "${1:-}" != lint ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
    echo "Installing Debian packages: ${missing[*]} ..."
    # The tests start servers of their own; those of the packages stay off.
    rule=/usr/sbin/policy-rc.d
    [ -e $rule ] && rule=
    [ -z "$rule" ] || printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin $rule
    "${as_root[@]}" apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
    still=$?
    [ -z "$rule" ] || "${as_root[@]}" rm -f $rule
  else
    still=1
  fi
  if [ "$still" != 0 ]; then
    echo "The tests need these Debian packages, and they could not be installed here: ${missing[*]}" >&2
    echo "Install them with: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

# Unrelated XMPP clients for Node and browsers, in exactly the versions of the lock file.
if [ "${1:-}" != lint ] && [ ! tests/js/node_modules/.installed -nt tests/js/package-lock.json ]; then
  echo 'Installing the JavaScript clients of tests/js (npm ci) ...'
  if ! (cd tests/js && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.installed); then
    echo 'The tests need the npm packages of tests/js/package-lock.json, and npm ci failed. Try: cd tests/js && npm ci' >&2
    exit 1
  fi
fi

# What one Python process has compiled, the next one need not: the tests begin hundreds of them.
unset PYTHONDONTWRITEBYTECODE

failed=()
step() {
  local name=$1
  shift
  local began=$SECONDS
  echo "== $name"
  if ! "$@"; then
    failed+=("$name")
    echo "-- $name FAILED"
  fi
  echo "-- $name: $((SECONDS - began)) s"
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
without_server() { IMP_VAR="$scratch" "$bin/python" -W ignore::RuntimeWarning manage.py "$@"; }

if [ "${1:-}" != lint ]; then # compiles every file once, on the core that is idle now
  "$bin/python" -m pytest --collect-only -qq >/dev/null 2>&1 &
fi
step 'lint (ruff check)' "$bin/ruff" check --quiet .
step 'format (ruff format)' "$bin/ruff" format --check --quiet .
step 'types (mypy)' "$bin/mypy"
step 'import contracts (lint-imports)' "$bin/lint-imports" --no-cache
step 'templates (djlint)' "$bin/djlint" --quiet --lint templates impadmin
step 'manage.py check' without_server check --fail-level WARNING
step 'manage.py makemigrations --check' without_server makemigrations --check --dry-run
if [ "${1:-}" != lint ]; then
  # Each with servers of its own. One more than there are cores here: much of the time tests wait for a deadline.
  workers=(-n "${IMP_TEST_WORKERS:-3}" --dist worksteal)
  [ -z "${DATABASE_URL:-}${REDIS_URL:-}" ] || workers=()
  wait
  step 'tests (pytest)' "$bin/python" -m pytest --strict-config --again 3 --durations=40 --durations-min=5 "${workers[@]}"
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo 'Everything passed.'
