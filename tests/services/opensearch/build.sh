#!/usr/bin/env bash
# build.sh: $SERVICES_CACHE/opensearch-2.19.4/*.jar: the server and its HTTP module as libraries, and a main of 50 lines.
. "$(dirname "$0")/../lib.sh"
out=$SERVICES_CACHE/opensearch-2.19.4
lock_cache
[ -f "$out/opensearch-node.jar" ] && exit 0
work=$(mktemp -d)
cp -r "$HERE/." "$work/"
mkdir -p "$out"
cd "$work" || exit
$NICE mvn -B -q -ntp -Dmaven.repo.local="${MAVEN_CACHE:-$SERVICES_CACHE/m2}" -DskipTests \
    package dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out"
mv target/opensearch-node.jar "$out/"
rm -rf "$work"
