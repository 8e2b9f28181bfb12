#!/usr/bin/env bash
# start.sh DIR PORT: nginx with WebDAV on loopback; files are DIR/data. PORT http, PORT+1 https (DIR/cert.pem).
# /open/ takes PUT from anybody; /dav/ wants user `test`, password `secret`; /down/ answers 503 with Retry-After: 1.
# Partial bodies never get a name here: nginx renames when it has all.
. "$(dirname "$0")/../lib.sh"
dir=$(mkdir -p "$1" && cd "$1" && pwd) port=$2
command -v nginx >/dev/null || die "apt-get install --no-install-recommends nginx-light libnginx-mod-http-dav-ext"
mkdir -p "$dir/data/open" "$dir/data/dav" "$dir/tmp"
echo "test:$(openssl passwd -apr1 secret)" >"$dir/users"
[ -f "$dir/cert.pem" ] || openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
cat >"$dir/nginx.conf" <<CONF
$([ "$(id -u)" = 0 ] && echo 'user root;')
load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
    access_log $dir/access.log;
    client_body_temp_path $dir/tmp/body;
    proxy_temp_path $dir/tmp/proxy;
    fastcgi_temp_path $dir/tmp/fastcgi;
    uwsgi_temp_path $dir/tmp/uwsgi;
    scgi_temp_path $dir/tmp/scgi;
    client_max_body_size 0;
    dav_methods PUT DELETE MKCOL COPY MOVE;
    dav_ext_methods PROPFIND OPTIONS;
    dav_access user:rw group:r all:r;
    server {
        listen 127.0.0.1:$port;
        listen 127.0.0.1:$((port + 1)) ssl;
        ssl_certificate $dir/cert.pem;
        ssl_certificate_key $dir/key.pem;
        root $dir/data;
        location /open/ { create_full_put_path on; }
        location /dav/ { auth_basic dav; auth_basic_user_file $dir/users; }
        location /down/ { add_header Retry-After 1 always; return 503; }
    }
}
CONF
as_daemon "$dir" nginx -p "$dir" -c "$dir/nginx.conf" -e stderr
wait_for 10 "$dir" http_ok -X PROPFIND -H 'Depth: 0' "http://127.0.0.1:$port/open/"
