#!/usr/bin/env bash
# build.sh: $SERVICES_CACHE/eureka-4.3.0/ (unpacked Spring Boot application and a class-data archive for a quick start).
. "$(dirname "$0")/../lib.sh"
out=$SERVICES_CACHE/eureka-4.3.0
lock_cache
[ -f "$out/eureka.jsa" ] && exit 0
work=$(mktemp -d)
cp -r "$HERE/." "$work/"
rm -rf "$out" "$work/target"
(
    cd "$work" || exit
    $NICE mvn -B -q -ntp -Dmaven.repo.local="${MAVEN_CACHE:-$SERVICES_CACHE/m2}" -DskipTests package
    java -Djarmode=tools -jar target/eureka.jar extract --destination "$out"
)
$NICE java -Xmx128m -XX:+UseSerialGC -XX:ArchiveClassesAtExit="$out/eureka.jsa" -Dspring.context.exit=onRefresh -Dserver.port=0 \
    -Dserver.address=127.0.0.1 -Deureka.client.register-with-eureka=false -Deureka.client.fetch-registry=false \
    -jar "$out/eureka.jar" >/dev/null 2>&1
rm -rf "$work"
