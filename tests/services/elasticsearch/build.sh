#!/usr/bin/env bash
# build.sh: $SERVICES_CACHE/elasticsearch-7.17.28/*.jar, from the same sources as ../opensearch with the other names.
. "$(dirname "$0")/../lib.sh"
out=$SERVICES_CACHE/elasticsearch-7.17.28
lock_cache
[ -f "$out/opensearch-node.jar" ] && exit 0
work=$(mktemp -d)
cp -r "$HERE/../opensearch/." "$work/"
mkdir -p "$out"
cd "$work" || exit
sed -i 's/org\.opensearch/org.elasticsearch/g' src/main/java/test/OpenSearchMain.java
sed -i 's/org\.opensearch/org.elasticsearch/; s/<artifactId>opensearch</<artifactId>elasticsearch</; s/2\.19\.4/7.17.28/; s/2\.21\.0/2.17.1/' pom.xml
$NICE mvn -B -q -ntp -Dmaven.repo.local="${MAVEN_CACHE:-$SERVICES_CACHE/m2}" -DskipTests \
    package dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out"
mv target/opensearch-node.jar "$out/"
rm -rf "$work"
