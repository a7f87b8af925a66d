#!/usr/bin/env bash
# The compose file on a real engine: up and healthy, events from this machine, the oracle agrees; a service killed; three workers;
# every alert's and panel's query; gone again. Images that cannot be pulled are stood in for (docker/stand-ins).
#
#   dev/test-docker           all of it
#   dev/test-docker keep      leaves the stack running
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
bin=$CARGO_TARGET_DIR/debug
limit_s=300

say() { printf '%s\n' "$*" >&2; }
fail() { say "FAILED: $*"; docker ps -a --filter "label=com.docker.compose.project=anabranch" >&2; exit 1; }

# ---------------------------------------------------------------- the engine

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
if ! command -v docker >/dev/null; then
  command -v apt-get >/dev/null || { say "error: Docker is missing: https://docs.docker.com/engine/install"; exit 3; }
  say "installing docker.io docker-compose debootstrap prometheus"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io docker-compose debootstrap prometheus postgresql-client >/dev/null
fi
engine=
if ! docker info >/dev/null 2>&1; then
  "${sudo[@]}" setsid dockerd >/tmp/anabranch-dockerd.log 2>&1 </dev/null &
  engine=$!
  for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 0.5; done
  docker info >/dev/null 2>&1 || { tail -n 5 /tmp/anabranch-dockerd.log >&2; say "error: dockerd does not start"; exit 3; }
fi
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose+=(-f docker/compose.yaml --project-directory docker)
stack() { COMPOSE_PROFILES=demo,monitoring "${compose[@]}" "$@"; }

finish() {
  jobs -p | xargs -r kill 2>/dev/null || true
  [ "${keep:-}" = keep ] || stack down -v --timeout 20 >/dev/null 2>&1 || true
  "${sudo[@]}" sed -i '/# anabranch test-docker$/d' /etc/hosts 2>/dev/null || true
  [ -z "$engine" ] || "${sudo[@]}" kill "$engine" 2>/dev/null || true
}
keep=${1:-}
trap finish EXIT

# ---------------------------------------------------------------- images


# ---------------------------------------------------------------- up

services=(kafka namenode datanode postgres speed archive batch serving kafka-metrics prometheus)
state() { docker inspect -f '{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$1"; }
containers() { docker ps -aq --filter "label=com.docker.compose.project=anabranch" --filter "label=com.docker.compose.service=$1"; }
# A service is well when all its containers are healthy, or run where no health check is.
well() {
  local container
  for container in $(containers "$1"); do case $(state "$container") in healthy | running) ;; *) return 1 ;; esac; done
  [ -n "$(containers "$1")" ]
}
wait_well() {
  local service began=$SECONDS
  for service in "$@"; do
    until well "$service"; do
      [ $((SECONDS - began)) -lt $limit_s ] || { docker logs --tail 20 "$(containers "$service" | head -n 1)" >&2; fail "$service is not healthy within $limit_s s"; }
      sleep 0.5
    done
  done
}

began=$SECONDS
stack up -d "${services[@]}" >/tmp/anabranch-docker-up.log 2>&1 || { tail -n 20 /tmp/anabranch-docker-up.log >&2; fail "up"; }
printf '\n| service | image | size | healthy after |\n|---|---|---:|---:|\n'
for service in "${services[@]}"; do
  wait_well "$service"
  container=$(containers "$service" | head -n 1)
  image=$(docker inspect -f '{{.Config.Image}}' "$container")
  size=$(docker image inspect -f '{{.Size}}' "$image")
  # Of the container itself: from its start to its first good health check.
  took=$(docker inspect -f '{{.State.StartedAt}} {{if .State.Health}}{{range .State.Health.Log}}{{if eq .ExitCode 0}}{{.End.Format "2006-01-02T15:04:05.999999999Z07:00"}} {{end}}{{end}}{{end}}' "$container" \
    | python3 -c 'import sys, datetime as d; w = sys.stdin.read().split(); p = lambda t: d.datetime.fromisoformat(t[:19]); print(f"{(p(w[1]) - p(w[0])).seconds} s" if len(w) > 1 else "(no check)")')
  stood=$(docker image inspect -f '{{index .Config.Labels "anabranch.stand-in"}}' "$image")
  printf '| %s | %s%s | %d MB | %s |\n' "$service" "$image" "${stood:+ (stand-in)}" $((size / 1000000)) "$took"
done
printf 'all healthy after %d s\n' $((SECONDS - began))
for once in topics apply; do
  [ "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' "$(containers $once)")" = "exited 0" ] || fail "$once did not end well"
done

# ---------------------------------------------------------------- from this machine

export ANABRANCH_KAFKA__BROKERS=localhost:9094 ANABRANCH_WAREHOUSE__URL=hdfs://localhost:9000/anabranch ANABRANCH_SERVING__LISTEN=127.0.0.1:8080
export ANABRANCH_POSTGRES__URL=postgres://anabranch:anabranch@localhost:5432/anabranch
"${sudo[@]}" sh -c 'echo "127.0.0.1 datanode # anabranch test-docker" >>/etc/hosts'
events() { "$bin/anabranch" simulate server-status --count "$1" --rate "${2:-0}" >/dev/null 2>&1; }
agrees() {
  local try
  for try in $(seq 60); do
    if "$bin/anabranch-oracle" --url http://127.0.0.1:8080 >/tmp/anabranch-oracle.log 2>&1; then tail -n 1 /tmp/anabranch-oracle.log; return; fi
    sleep 1
  done
  cat /tmp/anabranch-oracle.log >&2
  fail "the oracle does not agree $1"
}
events 20000
agrees "after 20,000 events"
"$bin/anabranch" recompute >/dev/null 2>&1 || fail "a run from this machine"
"$bin/anabranch" verify | tail -n 1 || fail "verify from this machine: HDFS and its DataNode are reached from here"
agrees "with a version"
counted=$(docker exec "$(containers postgres)" psql -U anabranch -d anabranch -qAtc 'SELECT sum(messages) FROM serving.status_by_city')
say "SQL counts $counted events"

# ---------------------------------------------------------------- a service that dies

events 100000000 500 &
for service in speed kafka; do
  container=$(containers $service | head -n 1)
  before=$(docker inspect -f '{{.State.Pid}}' "$container")
  "${sudo[@]}" kill -9 "$before"
  for _ in $(seq 60); do
    now=$(docker inspect -f '{{.State.Pid}}' "$container")
    [ "$now" != 0 ] && [ "$now" != "$before" ] && break
    sleep 0.5
  done
  [ "$now" != "$before" ] || fail "$service was not restarted"
  wait_well "${services[@]}"
  agrees "after $service was killed"
  say "$service was killed and is back"
done

# ---------------------------------------------------------------- more workers

stack up -d --no-recreate --scale speed=3 "${services[@]}" >/tmp/anabranch-docker-scale.log 2>&1 || { tail -n 20 /tmp/anabranch-docker-scale.log >&2; fail "--scale speed=3"; }
wait_well speed
[ "$(containers speed | wc -l)" = 3 ] || fail "three workers: $(containers speed | wc -l)"
owners() { docker exec "$(containers postgres)" psql -U anabranch -d anabranch -qAtc "SELECT count(DISTINCT epoch) FROM anabranch.partition WHERE source = 'server_status' AND epoch IS NOT NULL"; }
for _ in $(seq 60); do [ "$(owners)" = 3 ] && break; sleep 1; done
[ "$(owners)" = 3 ] || fail "three workers share the partitions: $(owners)"
agrees "with three workers"
say "three workers share the partitions"

# ---------------------------------------------------------------- figures

sleep 20
python3 deploy/check.py http://localhost:9090 "docker exec -i $(containers postgres) psql -h 127.0.0.1 -U anabranch -d anabranch" || fail "a panel without data"
kill %% 2>/dev/null || true

# ---------------------------------------------------------------- gone

[ "$keep" != keep ] || { say "the stack runs on: docker compose -f docker/compose.yaml down -v ends it"; exit 0; }
stack down -v --timeout 60 >/dev/null 2>&1
for kind in "ps -aq" "volume ls -q" "network ls -q"; do
  # shellcheck disable=SC2086
  left=$(docker $kind --filter label=com.docker.compose.project=anabranch)
  [ -z "$left" ] || fail "down -v leaves: $left"
done
echo "nothing is left"
