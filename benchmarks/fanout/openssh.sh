#!/usr/bin/env bash
# What OpenSSH alone can do, 40 hosts at a time: one ssh a host, the whole step in one command, the bundle on its
# standard input. With VERB=true: one trivial command on each host, which is what a connection costs.
set -euo pipefail
export VERB=${1:-deploy}
xargs -P 40 -I{} -a "$FANOUT_HOSTS" bash -c '
  app=${FANOUT_APP//\{host\}/{}}
  step=true
  [ "$VERB" = true ] || step="
    set -e; mkdir -p $app/releases/$FANOUT_VERSION; cd $app; exec 9<>lock; flock -n 9
    cat > $FANOUT_VERSION.tgz; echo \"$FANOUT_SHA256  $FANOUT_VERSION.tgz\" | sha256sum -c --quiet
    tar xzf $FANOUT_VERSION.tgz -C releases/$FANOUT_VERSION; rm $FANOUT_VERSION.tgz
    ln -sfn releases/$FANOUT_VERSION next; mv -T next current; touch restarted"
  [ "$VERB" = true ] && FANOUT_BUNDLE=/dev/null
  exec ssh -F none -c aes128-gcm@openssh.com -o UserKnownHostsFile="$FANOUT_KNOWN_HOSTS" -o StrictHostKeyChecking=yes \
      -o LogLevel=ERROR -i "$FANOUT_KEY" -p "$FANOUT_PORT" "$FANOUT_USER@{}" "$step" < "$FANOUT_BUNDLE"'
