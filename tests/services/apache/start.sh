#!/usr/bin/env bash
# start.sh DIR PORT: Apache with WebDAV on loopback; files are DIR/data. /dav/ wants user `test`, password `secret`; folders are made by
# MKCOL alone.
. "$(dirname "$0")/../lib.sh"
dir=$(mkdir -p "$1" && cd "$1" && pwd) port=$2 modules=/usr/lib/apache2/modules
command -v apache2 >/dev/null || die "apt-get install --no-install-recommends apache2"
mkdir -p "$dir/data/dav" "$dir/lock"
echo "test:$(openssl passwd -apr1 secret)" >"$dir/users"
[ "$(id -u)" != 0 ] || chown -R www-data "$dir/data" "$dir/lock"
{
    for m in mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs dav_lock unixd; do
        [ ! -e "$modules/mod_$m.so" ] || echo "LoadModule ${m}_module $modules/mod_$m.so"
    done
    cat <<CONF
ServerName localhost
Listen 127.0.0.1:$port
PidFile $dir/apache.pid
DefaultRuntimeDir $dir
ErrorLog $dir/error.log
DocumentRoot $dir/data
DavLockDB $dir/lock/db
StartServers 1
ThreadsPerChild 8
MaxRequestWorkers 8
$([ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data\n')
<Directory $dir/data>
    Require all granted
</Directory>
<Directory $dir/data/dav>
    Dav On
    AuthType Basic
    AuthName dav
    AuthUserFile $dir/users
    Require valid-user
</Directory>
CONF
} >"$dir/apache.conf"
as_daemon "$dir" apache2 -d "$dir" -f "$dir/apache.conf" -DFOREGROUND
wait_for 10 "$dir" http_ok -u test:secret -X PROPFIND -H 'Depth: 0' "http://127.0.0.1:$port/dav/"
