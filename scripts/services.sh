#!/bin/sh
# Installs, from the system's packages, what the tests start for real: Chromium for the dashboard, NATS for streams,
# Prometheus and its Alertmanager, and what the clients need that come through pip.
set -eu
need=""
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || need="$need chromium"
python3 -c 'import venv, ensurepip' 2>/dev/null || need="$need python3-venv"
command -v nats-server >/dev/null 2>&1 || [ -x /usr/sbin/nats-server ] || need="$need nats-server"
command -v prometheus >/dev/null 2>&1 || need="$need prometheus"
command -v prometheus-alertmanager >/dev/null 2>&1 || need="$need prometheus-alertmanager"
# perf_analyzer is linked with it.
ldconfig -p 2>/dev/null | grep -q 'libb64\.so\.0d' || need="$need libb64-0d"
if [ -z "$need" ]; then
    echo "services: everything is installed" >&2
    exit 0
fi
echo "services: installing$need from the system's packages" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "services: this script knows apt-get only; install$need by hand" >&2
    exit 1
fi
SUDO=""
[ "$(id -u)" = 0 ] || SUDO=sudo
$SUDO apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -y -qq --no-install-recommends $need >&2
