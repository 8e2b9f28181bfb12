#!/usr/bin/env bash
# start.sh DIR PORT [MANAGEMENT_TOKEN [EXTRA.hcl]]: one Consul server in memory on loopback. PORT http, +1 serf, +2 rpc.
# With a token (a UUID) ACLs are on and everything else is denied. EXTRA.hcl is read as well.
. "$(dirname "$0")/../lib.sh"
dir=$(mkdir -p "$1" && cd "$1" && pwd) port=$2 token=${3:-} extra=()
mkdir -p "$dir"
cat >"$dir/consul.hcl" <<CONF
node_name            = "test"
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
disable_update_check = true
ports { http = $port serf_lan = $((port + 1)) server = $((port + 2)) serf_wan = -1 dns = -1 grpc = -1 grpc_tls = -1 }
CONF
[ -z "$token" ] || cat >>"$dir/consul.hcl" <<CONF
acl { enabled = true default_policy = "deny" tokens { initial_management = "$token" agent = "$token" } }
CONF
[ -z "${4:-}" ] || extra=("-config-file=$4")
as_daemon "$dir" "$SERVICES_CACHE/consul-1.22.3/consul" agent -dev -log-level=warn -config-file="$dir/consul.hcl" "${extra[@]}"
ready() { http_ok -H "X-Consul-Token: $token" "http://127.0.0.1:$port/v1/health/service/consul?passing" | grep -q '"Node"'; }
wait_for 20 "$dir" ready
