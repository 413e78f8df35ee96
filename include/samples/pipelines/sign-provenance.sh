#!/bin/sh
# Print SLSA provenance v1 about an artifact, signed as DSSE, for a pipeline that has a shell and openssl:
#
#   sign-provenance.sh --key KEY.pem --builder ID --repository URL --commit SHA \
#       [--workflow PATH] [--entry-point NAME] [--byproduct FILE]... ARTIFACT > ARTIFACT.intoto.jsonl
#
# KEY.pem is a private key: Ed25519 (openssl genpkey -algorithm ed25519) or ECDSA on P-256. Its public key is pinned in
# policy.yaml (openssl pkey -in KEY.pem -pubout). Byproducts are the reports that belong to the artifact.
set -eu

key='' builder='' repository='' commit='' workflow='' entry_point='' artifact='' byproducts=''

say_no() {
    echo "sign-provenance: $1" >&2
    exit 2
}

plain() { # a value that JSON takes as it is
    case $1 in
    *[!A-Za-z0-9_.:/@%+=,~\ -]*) say_no "$1 has a character that cannot be written here" ;;
    esac
}

digest() {
    [ -f "$1" ] || say_no "there is no file $1"
    openssl dgst -sha256 -r "$1" | cut -c1-64
}

while [ $# -gt 0 ]; do
    case $1 in
    --key) key=$2 && shift 2 ;;
    --builder) builder=$2 && shift 2 ;;
    --repository) repository=$2 && shift 2 ;;
    --commit) commit=$2 && shift 2 ;;
    --workflow) workflow=$2 && shift 2 ;;
    --entry-point) entry_point=$2 && shift 2 ;;
    --byproduct)
        plain "$2"
        found=$(digest "$2")
        byproducts="$byproducts${byproducts:+,}{\"name\":\"${2##*/}\",\"digest\":{\"sha256\":\"$found\"}}"
        shift 2
        ;;
    -*) say_no "$1 is not known" ;;
    *) artifact=$1 && shift ;;
    esac
done
for value in "$key" "$builder" "$repository" "$commit" "$artifact"; do
    [ -n "$value" ] || say_no "--key, --builder, --repository, --commit and an artifact are needed"
done
for value in "$builder" "$repository" "$commit" "$workflow" "$entry_point" "$artifact"; do
    plain "$value"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

parameters="\"source\":{\"repository\":\"$repository\"}"
[ -z "$workflow" ] || parameters="$parameters,\"workflow\":\"$workflow\""
[ -z "$entry_point" ] || parameters="$parameters,\"entryPoint\":\"$entry_point\""
sha256=$(digest "$artifact")
cat >"$work/payload" <<EOF
{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"${artifact##*/}","digest":{"sha256":"$sha256"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"urn:sign-provenance:v1","externalParameters":{$parameters},"resolvedDependencies":[{"uri":"git+$repository","digest":{"gitCommit":"$commit"}}]},"runDetails":{"builder":{"id":"$builder"},"byproducts":[$byproducts]}}}
EOF

type=application/vnd.in-toto+json
size=$(wc -c <"$work/payload" | tr -d ' ')
{
    printf 'DSSEv1 %d %s %d ' ${#type} "$type" "$size"
    cat "$work/payload"
} >"$work/signed"
if openssl pkey -in "$key" -noout -text | grep -qi ed25519; then
    openssl pkeyutl -sign -inkey "$key" -rawin -in "$work/signed" -out "$work/signature"
else
    openssl dgst -sha256 -sign "$key" -out "$work/signature" "$work/signed"
fi
payload=$(openssl base64 -A -in "$work/payload")
signature=$(openssl base64 -A -in "$work/signature")
printf '{"payloadType":"%s","payload":"%s","signatures":[{"sig":"%s"}]}\n' "$type" "$payload" "$signature"
