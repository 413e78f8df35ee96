# What Interlock runs on a host: POSIX sh, with the tools of every Linux, GNU's or BusyBox's.
# This text is constant. What differs comes as arguments, quoted, and as lines on standard input; the first of them is
# the mark that each line of an answer begins with.
#
#   ask ROOT RELEASE...       say what is current, without a lock
#   look ROOT                 the same, and then, line by line, without a lock, and nothing is written:
#     files LARGEST COUNT     COUNT names follow, one a line, from ROOT or from /: say of each what stands there
#   session ROOT SERVICE ENVIRONMENT DEPLOYMENT TOKEN PATIENCE RELEASE SHA256 SIZE META [PERMIT SIGNATURE]
#                             lock the host, say what is current, and then do, line by line:
#     until SECONDS             the next command is refused after that, by this host's uptime; there is no answer
#     manifest RELEASE          say which files a release was made of, if that is known: compressed, in base64
#     receive M                 M bytes follow, RELEASE's manifest, and SIZE bytes: check their digest, unpack them
#     patch SHA256 N BASE       N bytes follow, what differs from BASE: make RELEASE, check each of its files
#     hooks COUNT               COUNT lines follow, what releases' AppSpecs say: release, word, three values, the rest;
#                               there is no answer
#     prepare                   say whether the hooks may run as whom they are to, and the files be put in their places
#     traffic EVENT RELEASE     run the hooks of an event around traffic
#     activate WHEN_STOP_FAILS  switch to RELEASE, and back if a hook fails; "go_on" or "refuse": when what runs cannot
#                               be stopped by its own hooks
#     settle RELEASE            switch to a release that is here ("-": to none), and stay there
#     restore RELEASE           the same, whatever is in the way of its files
#     step ID SECONDS ACCOUNT SCRIPT
#                               run a program of RELEASE, which stays as it is: once for an ID, whatever happens
#     leave                     end, as the end of standard input does
#     finish KEEP PREVIOUS      the switch is done: forget it, and all but KEEP releases
#   close ROOT SERVICE ENVIRONMENT TOKEN PERMIT SIGNATURE
#                             a release is closed: write down TOKEN, so that its own, which are lower, are void
#
# Answers are lines; the last one begins with "done", "failed", "busy", "fenced" or "refused", and names the current
# release next.
# Before it may stand: "step" (what is done next), "wait" (this takes a while), "tail" (what a hook printed), "warn" (to
# be logged), "unfinished" (in the switch that was begun, what is current did not come to the end of its start),
# "verified" (the permit, with a key of this host), and "leave" (this program has ended).
#
# An answer is a line that begins with the mark, and nothing else is: what a login shell, a banner, a tool or a hook
# prints does not have it. Nobody else can: it is new for each run, and stands in no argument and no environment.
# Answers go to descriptor 8, which no hook and nothing that is left running has; all other output is noise.
#
# The session's lock is held by an open file: it is given back by the death of this process, however it dies. When the
# connection is cut, what was begun is ended, and then standard input ends. So a host is never left between releases.
#
# TOKEN only grows: who has a higher one came later, and has the right to the host. It is written down before the lock
# is asked for, and whoever has a lower one does no further step, whether it is in the middle of a command or waits for
# one. A program that was stopped cannot look: so before the lock is taken, what runs of it is killed, stopped or not.
set -uf
umask 022
slowest=65536 # bytes per second below which a transfer is given up
newline='
'
tab=$(printf '\t')
usual=$IFS
started=

say() { printf '%s\n' "$*"; } # to a file or another command

answer() { printf '%s %s\n' "$mark" "$*" >&8; }

look() {
    [ ! -f .interlock/started ] || IFS= read -r started <.interlock/started
    now=-
    [ -h current ] || return 0
    now=$(readlink current)
    now=${now##*/}
    now=${now:--}
}

exists() { [ -f "releases/$1/.interlock.json" ]; }

describe() { # RELEASE, as it describes itself
    exists "$1" || return 0
    text=
    while IFS= read -r line || [ -n "$line" ]; do text=$text$line; done <"releases/$1/.interlock.json"
    answer "release $1 $text"
    [ ! -s ".interlock/manifests/$1.gz" ] || answer "manifest $1"
    [ -f "releases/$1/appspec.yml" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do answer "appspec $1 $line"; done <"releases/$1/appspec.yml"
}

describe_each() {
    told=
    for name in "$@"; do
        case " $told " in
            *" $name "*) ;;
            *) told="$told $name" && describe "$name" ;;
        esac
    done
}

ended() { # done | failed | busy, WHY: the last line of an answer
    [ ! -f .interlock/journal ] || [ "$started" = "$now" ] || answer unfinished
    word=$1 && shift
    why=$*
    while [ "$why" != "${why#*"$newline"}" ]; do why="${why%%"$newline"*} ${why#*"$newline"}"; done
    printf '%s %s %s %.2000s\n' "$mark" "$word" "$now" "$why" >&8
}

ask() {
    now=-
    [ -e "$1" ] || { answer "done -" && exit; }
    cd -- "$1" || { answer "failed - the folder $1 cannot be entered" && exit; }
    shift
    look
    describe_each "$now" "$@"
    ended done
}

look_at() { # ROOT
    ask "$1"
    while IFS= read -r line; do
        case $line in
            "files "*) files ${line#* } ;;
            *) break ;;
        esac
    done
}

files() { # LARGEST COUNT: a file with more bytes than LARGEST is not read, for it may have been made endless
    largest=$1 count=$2 number=0
    set --
    while [ "$number" -lt "$count" ]; do
        IFS= read -r name || exit
        number=$((number + 1))
        if [ -h "$name" ]; then
            target=$(readlink "$name" && echo .)
            target=${target%"$newline."}
            # A name may have ends of lines in it, but no link of a release leads there.
            case $target in *"$newline"*) answer "other $number" ;; *) answer "link $number $target" ;; esac
        elif [ -d "$name" ]; then
            answer "folder $number"
        elif [ ! -e "$name" ]; then
            if is_gone "$name"; then answer "gone $number"; else answer "hidden $number"; fi
        elif [ ! -f "$name" ]; then
            answer "other $number"
        elif [ ! -r "$name" ]; then
            answer "hidden $number"
        else
            set -- "$@" "$name"
        fi
    done
    [ $# = 0 ] || {
        find "$@" -maxdepth 0 -type f -size "-$((largest + 1))c" -exec sha256sum '{}' + | sed 's/^/sum /'
        find "$@" -maxdepth 0 -type f -size "+${largest}c" | sed 's/^/large /'
    } 2>/dev/null | while IFS= read -r line; do answer "$line"; done
    ended done
}

is_gone() { # NAME: nothing stands there, and not only nothing that the login may see
    above=$1
    while [ "$above" != "${above%/*}" ]; do
        above=${above%/*}
        [ ! -e "${above:-/}" ] || { [ ! -d "${above:-/}" ] || [ -x "${above:-/}" ]; return; }
    done
}

session() {
    root=$1 service=$2 environment=$3 deployment=$4 token=$5 && shift 5
    patience=$1 release=$2 sha256=$3 size=$4 meta=$5 permit=${6:-} signature=${7:-}
    reason='' limit='' visit=${INTERLOCK_VISIT:-}
    now=- hooks='' hooks_run=0 turn=0 step='' purpose=-
    has_tools || { answer "failed - the host lacks $lacks" && exit; }
    permitted || { ended refused "$objection" && exit; }
    set -- "$root/.interlock/output" "$root/.interlock/manifests" "$root/.interlock/fence" \
        "$root/releases" "$root/shared"
    problem=$(mkdir -p -- "$@" 2>&1) && cd -P -- "$root" ||
        { answer "failed - its folders cannot be made:" $problem && exit; }
    root=$PWD
    owned # before the token is written: it is the environment's
    apart
    fence
    lock
    rightful
    owned
    [ -f .interlock/owner ] ||
        { say "$service $environment" >.interlock/owner.new && mv -f .interlock/owner.new .interlock/owner; } ||
        { ended failed "whose the folder is cannot be written" && exit; }
    enlist
    # The end of the connection must not end what was begun. A handler, not '': hooks would inherit that.
    trap : HUP INT PIPE TERM
    tidy
    look
    watch
    from=- to=-
    if [ -f .interlock/journal ]; then
        IFS=' ' read -r from to <.interlock/journal
        answer "journal $from $to"
    fi
    describe_each "$now" "$release" "$from"
    uptime
    answer "uptime $seconds_up"
    ended done
    while await; do
        rest=${line#* }
        case $line in
            "until "*) limit=$rest && continue ;;
            "hooks "* | leave) ;;
            *)
                rightful
                punctual || { ended failed "the command $line came too late" && continue; }
                ;;
        esac
        case $purpose.$line in
            step."activate "* | step."settle "* | step."restore "* | step."traffic "* | step."finish "*)
                ended refused "the permit is for a step, and not to switch releases" && continue ;;
            step."step "* | -."step "*) ;;
            *."step "*) ended refused "the permit is to $purpose, and not for a step" && continue ;;
        esac
        case $line in
            "manifest "*) manifest "$rest" ;;
            "receive "*) receive "$rest" ;;
            "patch "*) patch $rest ;;
            "hooks "*) read_hooks "$rest" ;;
            prepare) prepare ;;
            "traffic "*) if run "${rest#* }" "${rest%% *}"; then ended done; else ended failed "$reason"; fi ;;
            "activate "*) activate "$rest" ;;
            "settle "* | "restore "*) settle "$rest" "${line%% *}" ;;
            "finish "*) finish "${rest%% *}" "${rest#* }" ;;
            "step "*) step $rest ;;
            leave) break ;;
            *) ended failed "the host's program does not know the command $line" ;;
        esac
    done
    kill "$watcher" 2>/dev/null
}

close() { # ROOT SERVICE ENVIRONMENT TOKEN PERMIT SIGNATURE: without the lock, which nobody needs to write a token down
    root=$1 service=$2 environment=$3 token=$4 permit=$5 signature=$6
    now=- release=- sha256=''
    [ -d "$root/.interlock" ] || { ended done && exit; }
    permitted || { ended refused "$objection" && exit; }
    problem=$(mkdir -p -- "$root/.interlock/fence" 2>&1) && cd -P -- "$root" ||
        { answer "failed - its folders cannot be made:" $problem && exit; }
    root=$PWD
    owned
    highest
    [ "$token" -le "$top" ] || fence
    look
    ended done
}

# A host of production has in this folder: permit-keys, the keys that sign permits, for ssh-keygen; and names, by which
# permits name the host, one a line. Who shows no permit to such a host changes nothing there.
enrolment=${INTERLOCK_ENROLMENT:-/etc/interlock}
skew=300 # seconds by which the host's clock and the installation's may differ

permitted() { # or says in $objection why not
    objection=
    if [ ! -e "$enrolment/permit-keys" ]; then
        [ ! -d "$enrolment" ] || [ -x "$enrolment" ] || objection="its folder $enrolment cannot be entered"
    elif [ -z "$permit" ]; then
        objection="it was shown no permit"
    elif ! command -v ssh-keygen >/dev/null; then
        objection="it lacks ssh-keygen, which verifies permits"
    elif ! said=$(verify 2>&1); then
        objection="no key in $enrolment/permit-keys signed the permit: $said"
    else
        object
        [ -n "$objection" ] || answer verified
    fi
    [ -z "$objection" ]
}

verify() {
    printf %s "$permit" | ssh-keygen -Y verify -f "$enrolment/permit-keys" -I interlock -n interlock-permit \
        -s /proc/self/fd/3 3<<EOF
$signature
EOF
}

object() { # to a permit for something else, of another time, or for another host
    at=$(date +%s) named='' purpose=-
    while IFS=' ' read -r word value; do
        case $word in
            purpose) purpose=$value ;;
            place) [ "$value" = "booking/$environment/$service" ] ||
                objection="the permit is for $value, and the visit for $service in $environment" ;;
            token) [ "$value" = "$token" ] || objection="the permit has the token $value, and the visit $token" ;;
            bundle) fits "$value" || objection="the permit is for the bundle $value, and not for $release" ;;
            from) [ "$at" -ge "$((value - skew))" ] || objection="the permit is from the future by this host's clock" ;;
            until) [ "$at" -lt "$((value + skew))" ] || objection="the permit has expired by this host's clock" ;;
        esac
    done <<EOF
$permit
EOF
    case $verb.$purpose in
        close.close) ;;
        close.*) objection="the permit is to $purpose, and closes no release" ;;
        *.close) objection="what it was shown closes a release, and lets nothing be changed" ;;
    esac
    # A permit may name many hosts, and a host has few names.
    while IFS= read -r name || [ -n "$name" ]; do
        case $permit in *"${newline}host $name$newline"*) named=yes ;; esac
    done <"$enrolment/names"
    [ -n "$named" ] || objection="the permit names none of the names in $enrolment/names"
}

fits() { # BUNDLE: what is sent, or made current, is what the permit is for
    [ "$1" != - ] || return 0
    [ -z "$sha256" ] || [ "$sha256" = "$1" ] || return
    case $purpose in deploy | return) case $release in *"-${1%"${1#????????????}"}") ;; *) return 1 ;; esac ;; esac
}

# A folder is one service's, in one environment. One from before that was written down is that of the service whose
# release is current there.
owned() {
    owner='' of=
    if [ -f .interlock/owner ]; then
        IFS=' ' read -r owner of <.interlock/owner
    elif [ -h current ] && [ -f current/.interlock.json ]; then
        owner=$(sed -n 's/.*"service":"\([^"]*\)".*/\1/p' current/.interlock.json)
    fi
    [ -n "$owner" ] || return 0
    [ "$owner ${of:-$environment}" = "$service $environment" ] || {
        ended failed "the folder $root is that of $owner${of:+ in $of}, and not of $service in $environment. \
Two services need a deploy_root each; if $owner has left this host, remove $root"
        exit
    }
}

# .interlock-roots in the login's home names the folders of all services here, one a line: what one of them put
# somewhere, no other takes, and no folder is inside another's. A login without a home keeps no such list.
roots=${HOME:-/}/.interlock-roots

enlist() { { is_listed || say "$root" >>"$roots"; } 2>/dev/null; }

is_listed() { grep -qsxF -e "$root" "$roots"; }

others() { # COMMAND...: with each folder that is another service's, which is in $theirs, and whose it is
    [ -f "$roots" ] || return 0
    while IFS= read -r there; do
        [ "$there" != "$root" ] && [ -f "$there/.interlock/owner" ] || continue
        IFS=' ' read -r theirs stage <"$there/.interlock/owner" && [ "$theirs $stage" != "$service $environment" ] || continue
        "$@" || return
    done <"$roots"
}

apart() { others is_apart || exit; }

is_apart() {
    case $there/ in "$root"/*) ;; *) case $root/ in "$there"/*) ;; *) return 0 ;; esac ;; esac
    ended failed "the folder $root and that of $theirs in $stage, $there, are one inside the other. \
Two services need a deploy_root each; if $theirs has left this host, remove $there"
    return 1
}

uptime() { # counts while a process, or the whole machine, is stopped
    IFS='. ' read -r seconds_up rest_of_it </proc/uptime
}

punctual() { # whether the command comes in the time that whoever sent it had the right to
    late=$limit
    limit=
    [ -n "$late" ] || return 0
    uptime
    [ "$seconds_up" -le "$late" ]
}

# The tokens that the host has seen are the names of files: one is there or not, and nobody needs a lock to write it.
highest() {
    top=0
    set +f
    for seen in .interlock/fence/*; do
        case ${seen##*/} in *[!0-9]*) ;; *) [ "${seen##*/}" -le "$top" ] || top=${seen##*/} ;; esac
    done
    set -f
}

rightful_still() {
    highest
    [ "$top" -le "$token" ]
}

rightful() { # asked before each step; whoever has lost the right ends here, and leaves all as it is
    rightful_still || { answer leave; ended fenced "$top"; exit; }
}

fence() { # write down the token, so that those with lower ones do nothing any more
    rightful
    [ "$token" -gt "$top" ] || return 0
    # A full disk must not keep anybody from going back: a file can be renamed there.
    problem=$({ : >".interlock/fence/$token" || mv -fT ".interlock/fence/$top" ".interlock/fence/$token"; } 2>&1 &&
        sync .interlock/fence 2>&1) || { ended failed "its token cannot be written: $problem" && exit; }
    set +f
    for seen in .interlock/fence/*; do
        [ "${seen##*/}" -ge "$token" ] || rm -f "$seen"
    done
    set -f
}

has_tools() { # or says in $lacks which one is not there
    for lacks in flock timeout sha256sum tar gzip sync readlink dd mv cp find sort comm xargs grep sed tr base64 cmp \
        stat; do
        command -v "$lacks" >/dev/null || { lacks="the command $lacks" && return 1; }
    done
    # One program under many names, as BusyBox is: old ones do not know all that is asked of them.
    where=$(command -v mv)
    case $where in /*) [ -h "$where" ] || return 0 ;; esac
    while IFS= read -r lacks; do
        sh -c "$lacks" >/dev/null 2>&1 </dev/null || { lacks="a tool that can do this: $lacks" && return 1; }
    done <<'EOF'
timeout -k 1 60 true
sync -f /
dd if=/dev/null bs=1 count=1 iflag=fullblock,count_bytes status=none
grep -lszxF -e x /dev/null || [ $? = 1 ]
mv --help 2>&1 | grep -e -T -e '-[a-z]*T'
cp --help 2>&1 | grep -e '-t '
find / -maxdepth 0 -exec true '{}' +
stat -c '%a %u:%g' /
printf x | xargs -0 -r echo
EOF
}

tidy() { # what an earlier session left half-way; what cannot be removed is in nobody's way
    set +f
    set -- .interlock/incoming releases/.new releases/.patch releases/.gone*
    set -f
    for left in "$@"; do
        [ ! -e "$left" ] || { answer wait && rm -rf "$@"; break; }
    done
    unstage
}

await() { # the next command
    turn=$((turn + 1))
    echo "$$ $turn waiting" >.interlock/turn
    IFS= read -r line || return
    echo "$$ $turn busy" >.interlock/turn
}

# A process beside this one: when no command comes for so long, the other side is gone without a word, and it ends this
# one, and with it the lock.
watch() {
    (
        trap 'kill "$nap" && exit' TERM
        seen=
        while sleep "$patience" & nap=$! && wait "$nap"; do
            IFS= read -r said <.interlock/turn || exit
            # The lock is free, or another session's: this one has ended.
            case $said in "$$ "*) ! flock -n .interlock/lock true || exit ;; *) exit ;; esac
            [ "$said" != "$seen" ] || [ "${said##* }" != waiting ] || kill -KILL "$$"
            seen=$said
        done
    ) </dev/null >/dev/null 2>&1 8>&- 9>&- &
    watcher=$!
}

lock() {
    exec 9<>.interlock/lock
    waited=0
    until flock -n 9; do
        rightful
        holder='' theirs=0 running='' process=-
        [ ! -f .interlock/holder ] || {
            IFS= read -r holder
            IFS=' ' read -r theirs running process
        } <.interlock/holder
        # What an earlier try of the same deployment left running here comes to its end by itself: wait for that.
        [ "$holder" = "$deployment" ] && most=$patience || most=2
        if [ -n "$running" ] && [ "$token" -gt 0 ] && [ "$token" -ge "$theirs" ]; then
            # It ends with its step, having a lower token; if it does nothing, or cannot, it is ended.
            if is_idle || [ "$waited" -ge "$patience" ]; then evict; fi
            [ "$token" -eq "$theirs" ] || most=$((patience + 10))
        fi
        [ "$waited" -lt "$most" ] || { ended busy "$holder" && exit; }
        [ "$waited" -gt 0 ] || answer wait
        sleep 1
        waited=$((waited + 1))
    done
    printf '%s\n' "$deployment" "$token $visit $$" >.interlock/holder
}

is_idle() { # whether the program that has the lock waits for what the other side says, or was stopped
    IFS=' ' read -r whose number doing <.interlock/turn && case $whose.$doing in
        "$process.waiting" | "$process.taking") return ;;
    esac
    IFS=' ' read -r whose name condition others <"/proc/$process/stat" || return
    case $condition in T | t) ;; *) return 1 ;; esac
} 2>/dev/null

evict() { # kill all that runs of the visit that has the lock, and of the hook that it is in
    for round in 1 2 3 4 5 6 7 8 9 10; do
        pids=$(carriers "INTERLOCK_VISIT=$running")
        [ -n "$pids" ] || break
        kill -KILL $pids 2>/dev/null
        sleep 0.1
    done
    [ -s .interlock/hook ] || return 0
    IFS= read -r hook_of <.interlock/hook
    case $hook_of in *" $process "*) sweep "INTERLOCK_HOOK=$hook_of" ;; esac
    answer "warn the program of ${holder:-another deployment} (token $theirs) was ended: it had lost the right to change the host"
}

take() { # BYTES FILE: from standard input
    echo "$$ $turn taking" >.interlock/turn
    # Not head: BusyBox's takes more from a pipe than it is told to.
    problem=$(timeout "$((patience + $1 / slowest))" \
        dd bs=65536 count="$1" iflag=fullblock,count_bytes status=none 2>&1 >"$2" 9>&-) ||
        { answer leave; ended failed "the bundle cannot be written: $problem"; exit; }
    echo "$$ $turn busy" >.interlock/turn
    rightful
}

# openssl uses the processor's own instructions, and so is several times as fast; it takes longer to start.
has_openssl() { [ "$1" -gt 2097152 ] && command -v openssl >/dev/null; } # BYTES

has_digest() { # SHA256 FILE BYTES
    if has_openssl "$3"; then
        [ "$(openssl dgst -sha256 -r "$2")" = "$1 *$2" ]
    else
        sha256sum -c >/dev/null 2>&1 <<EOF
$1  $2
EOF
    fi
}

digests() { # of the files whose names come, with a NUL at the end of each
    if has_openssl "$size"; then xargs -0 -r openssl dgst -sha256 -r; else
        xargs -0 -r sha256sum -- | sed 's/^\([0-9a-f]*\)  /\1 */'
    fi
}

manifest() { # RELEASE
    base64 -w 4000 <".interlock/manifests/$1.gz" | while IFS= read -r line || [ -n "$line" ]; do
        answer "manifest $line"
    done
    ended done
}

receive() { # BYTES of the manifest
    [ "$1" = 0 ] || take "$1" ".interlock/manifests/$release.gz"
    take "$size" .interlock/incoming
    answer "step verify"
    has_digest "$sha256" .interlock/incoming "$size" ||
        { ended failed "the bundle that arrived does not have the digest $sha256" && return; }
    answer "step unpack"
    if problem=$(unpack 2>&1); then ended done; else ended failed "the bundle cannot be unpacked: $problem"; fi
}

unpack() {
    [ "$release" != "$now" ] || { echo "$release is current, and is not what it should be" && return 1; }
    # What has been unpacked need not be on the disk.
    mkdir releases/.new && tar -xzof .interlock/incoming -C releases/.new && rm .interlock/incoming &&
        seal releases/.new && install releases/.new
}

seal() { # FOLDER: say in it what it is, and have all of it on the disk
    # The bundle may have something of that name, a link for example: it is not written through.
    [ ! -h "$1/.interlock.json" ] && [ ! -e "$1/.interlock.json" ] || rm -rf "$1/.interlock.json" || return 1
    printf '%s\n' "$meta" >"$1/.interlock.json" && sync -f "$1"
}

install() { # FOLDER, sealed, as RELEASE
    rightful_still || return 1
    [ ! -e "releases/$release" ] || put_aside "$release" || return 1
    mv -T "$1" "releases/$release"
}

put_aside() { # RELEASE, before it is removed: a release is whole, or it is not there
    number=1
    while [ -e "releases/.gone.$number" ]; do number=$((number + 1)); done
    mv -T "releases/$1" "releases/.gone.$number"
}

patch() { # SHA256 and BYTES of an archive, BASE
    take "$2" .interlock/incoming
    answer "step patch"
    if problem=$(assemble "$@" 2>&1); then ended done; else tidy && ended failed "$problem"; fi
}

# The archive has: tree/, what is new or changed, with all folders and links; copy, executable and names, each with a
# NUL at the end of a name; patches and patch/, the changed places of large files; files, the digests of all of names;
# manifest, the release's, compressed.
assemble() { # SHA256 of the archive, its BYTES, BASE
    [ "$release" != "$now" ] || { echo "$release is current, and is not what it should be" && return 1; }
    has_digest "$1" .interlock/incoming "$2" || { echo "what arrived does not have the digest $1" && return 1; }
    mkdir releases/.patch && tar -xzof .interlock/incoming -C releases/.patch || return 1
    new=releases/.patch/tree
    # Copied, not linked: a program that writes to its own files, or a hook that changes an owner, would change both.
    (cd "releases/$3" && xargs -0 -r cp --parents --reflink=auto -t ../.patch/tree -- <../.patch/copy) &&
        (cd "$new" && xargs -0 -r chmod 644 -- <../copy) || return 1
    while IFS=' ' read -r number start length path; do
        gzip -dc "releases/.patch/patch/$number" | dd of="$new/$path" bs=8192 seek="$start" \
            iflag=fullblock conv=notrunc status=none || return 1
        [ "$length" = - ] || truncate -s "$length" -- "$new/$path" || return 1
    done <releases/.patch/patches
    [ ! -s releases/.patch/executable ] || (cd "$new" && xargs -0 -r chmod 755 -- <../executable) || return 1
    seal "$new" & # while it is on its way to the disk, it is looked at
    sealing=$!
    (cd "$new" && digests <../names) | cmp - releases/.patch/files && wait "$sealing" && install "$new" || return 1
    # If this does not do, the next release travels whole.
    mv -fT releases/.patch/manifest ".interlock/manifests/$release.gz"
    tidy
}

read_hooks() { # COUNT
    hooks=
    count=$1
    while [ "$count" -gt 0 ]; do
        IFS= read -r line || exit
        hooks=$hooks$line$newline
        count=$((count - 1))
    done
}

activate() { # WHEN_STOP_FAILS: to $release; whatever happens, something whole runs at the end
    from=$now reason='' stop_was_tried=-
    exists "$release" || { ended failed "$release is not on the host" && return; }
    begin "$from" "$release" || { ended failed "$reason" && return; }
    # What runs, and what ran until now, are the last that are removed.
    [ "$from" = - ] && touch "releases/$release" || touch "releases/$from" "releases/$release"
    if stop_old "$1" && run "$release" BeforeInstall && place "$release" && run "$release" AfterInstall &&
        switch "$release" && start "$release"; then
        ended done
        return
    fi
    rightful
    failure=$reason
    [ "$now" = "$release" ] || sweep "INTERLOCK_RELEASE=$root/releases/$release"
    go_to "$from" restore || failure="$failure. On the way back: $reason"
    ended failed "$failure"
}

stop_old() { # go_on | refuse: when its hooks fail
    stop_was_tried=$from
    run "$from" ApplicationStop && return
    [ "$1" = go_on ] || { reason="$reason. Only with on_stop_failure: go_on is it ended without its hook" && return 1; }
    answer "warn $reason. What $from had started was ended without it"
    sweep "INTERLOCK_RELEASE=$root/releases/$from"
    reason=''
}

settle() { # RELEASE, or - for none; settle | restore
    reason='' stop_was_tried=-
    [ "$1" = - ] || exists "$1" || { ended failed "$1 is not on the host" && return; }
    [ "$2" = restore ] || may_place "$1" settle || { ended failed "$reason" && return; }
    if [ -f .interlock/journal ]; then
        started=
        rm -f .interlock/started && sync .interlock
    else
        begin "$now" "$1" || { ended failed "$reason" && return; }
    fi
    if go_to "$1" "$2"; then ended done && return; fi
    failure=$reason
    # What cannot be switched to leaves running what ran; what cannot be started stays, for the next try.
    [ "$reached" = "$1" ] || go_to "$now" restore || failure="$failure. On the way back: $reason"
    ended failed "$failure"
}

begin() { # FROM TO: write down what is begun, and take the space that the way there and back needs
    rightful
    problem=$({ { [ ! -e .interlock/started ] || rm -f .interlock/started; } && link "$1" && link "$2" &&
        say "$1 $2" >.interlock/journal.new && mv -fT .interlock/journal.new .interlock/journal &&
        sync .interlock/journal .interlock releases; } 2>&1) && started= && return
    reason="the switch cannot be prepared: $problem"
    return 1
}

link() { # RELEASE
    [ "$1" = - ] || [ -h ".interlock/link.$1" ] || ln -s "releases/$1" ".interlock/link.$1"
}

switch() { # RELEASE: one rename
    rightful
    answer "step switch"
    if [ "$1" = - ]; then
        problem=$(rm -f current 2>&1)
    else
        problem=$({ link "$1" && mv -fT ".interlock/link.$1" current; } 2>&1)
    fi || { reason="the switch to $1 failed: $problem" && return 1; }
    now=$1
    problem=$(sync . 2>&1) || { reason="the switch to $1 may not be on the disk: $problem" && return 1; }
}

go_to() { # RELEASE, settle | restore: stop what runs as well as it can be stopped, switch, start
    rightful
    [ "$now" = "$stop_was_tried" ] || run "$now" ApplicationStop || answer "tail ($reason)"
    stop_was_tried=$now reached=
    sweep "INTERLOCK_RELEASE=$root/releases/$now"
    if ! place "$1" "$2"; then
        [ "$2" = restore ] || return
        answer "tail ($reason)"
    fi
    [ "$now" = "$1" ] || switch "$1" || return
    reached=$1
    start "$1"
}

start() { run "$1" ApplicationStart && run "$1" ValidateService && note_start "$1"; }

note_start() { # RELEASE: it runs, and is well; whoever does not find this note starts it again
    rightful
    started=$1
    { say "$1" >.interlock/started; } 2>/dev/null || : # half a note, or a lost one, is none
}

run() { # RELEASE EVENT: the hooks of a release for an event, which together have the event's time
    deadline=
    while IFS=' ' read -r owner event seconds account total script; do
        [ "$owner $event" = "$1 $2" ] || continue
        IFS='. ' read -r clock rest </proc/uptime
        [ -n "$deadline" ] || deadline=$((clock + total))
        [ "$seconds" -le "$((deadline - clock))" ] || seconds=$((deadline - clock))
        [ "$seconds" -gt 0 ] || { reason="the hooks $2 of $1 took more than $total seconds together" && return 1; }
        hook "$1" "$2" "$seconds" "$account" "$script" || return 1
    done <<EOF
$hooks
EOF
}

as_account() { # ACCOUNT: the command that runs a command as it
    become=env
    [ "$1" != - ] && [ "$1" != "$(id -un)" ] || return 0
    become="sudo -n -u $1 -- env"
    [ "$(id -u)" != 0 ] || ! command -v runuser >/dev/null || become="runuser -u $1 -- env"
}

hook() { # RELEASE EVENT SECONDS ACCOUNT SCRIPT
    answer "step $2"
    rightful
    hooks_run=$((hooks_run + 1))
    say "$root $$ $hooks_run" >.interlock/hook
    output=$root/.interlock/output/$1.$2
    true >"$output"
    # Neither the connection nor the lock is handed to the hook, so that what it leaves running holds neither, and is
    # not taken for a part of this visit.
    (
        unset INTERLOCK_VISIT
        cd "releases/$1" || exit 126
        as_account "$4"
        set -- "$5" "$2" "$3" "$root/releases/$1"
        export APPLICATION_NAME="$service" DEPLOYMENT_ID="$deployment" DEPLOYMENT_GROUP_NAME="$environment"
        export DEPLOYMENT_GROUP_ID="$environment" LIFECYCLE_EVENT="$2" INTERLOCK_SHARED="$root/shared"
        export INTERLOCK_RELEASE="$4" INTERLOCK_HOOK="$root $$ $hooks_run"
        [ -z "$step" ] || export INTERLOCK_STEP="$step"
        [ "$become" != env ] || exec timeout -k 5 "$3" "./$1"
        exec $become APPLICATION_NAME="$service" DEPLOYMENT_ID="$deployment" DEPLOYMENT_GROUP_NAME="$environment" \
            DEPLOYMENT_GROUP_ID="$environment" LIFECYCLE_EVENT="$2" INTERLOCK_SHARED="$root/shared" \
            INTERLOCK_RELEASE="$4" INTERLOCK_HOOK="$root $$ $hooks_run" ${step:+INTERLOCK_STEP="$step"} timeout -k 5 "$3" "./$1"
    ) </dev/null >>"$output" 2>&1 8>&- 9>&-
    code=$?
    : >.interlock/hook
    case $code in
        0) return 0 ;;
        124) reason="ran longer than its $3 seconds and was killed" ;;
        137 | 143) reason="was killed: it ran longer than its $3 seconds, or the host ended it" ;;
        126 | 127) reason="could not be run" ;;
        *) reason="ended with $code" ;;
    esac
    reason="the hook $2 ($5) of $1 $reason"
    sweep "INTERLOCK_HOOK=$root $$ $hooks_run"
    last_lines "$output"
    return 1
}

last_lines() { # FILE: not more of them than are read, for a line may have megabytes
    tail -c 4000 "$1" | tail -n 20 | while IFS= read -r line || [ -n "$line" ]; do answer "tail $line"; done
}

sweep() { # VARIABLE=VALUE: end every process that has it in its environment
    for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        pids=$(carriers "$1")
        [ -n "$pids" ] || return 0
        case $round in
            1) kill -TERM $pids ;;
            10 | 15) kill -KILL $pids ;;
        esac
        sleep 0.2
    done
}

carriers() {
    set +f
    grep -lszxF -e "$1" /proc/[0-9]*/environ | while IFS=/ read -r nothing proc pid file; do printf '%s ' "$pid"; done
}

# What is known of a step is in .interlock/steps: it was begun, or it ended, and how. A step that was begun, and of which
# the end is not known, is not run again: whether it was done is for people to find out.
step() { # ID SECONDS ACCOUNT SCRIPT
    step=$1 seconds=$2 account=$3
    shift 3
    noted=.interlock/steps/$step
    once "$seconds" "$account" "$*"
    step=
}

once() { # SECONDS ACCOUNT SCRIPT
    if [ -f "$noted.ended" ]; then
        IFS= read -r code <"$noted.ended"
        answer "again $code"
        last_lines "$noted.output"
    elif [ -f "$noted.begun" ]; then
        answer unclear
        ended failed "the step was begun on this host, and how it ended is not known: the program or the host was \
stopped meanwhile"
        return
    else
        exists "$release" || { ended failed "$release is not on the host" && return; }
        become=env && as_account "$2"
        problem=$($become true 2>&1 </dev/null) || {
            ended failed "the step is to run as $2, and $(id -un) may not do that here: $problem" && return
        }
        problem=$({ mkdir -p .interlock/steps && : >"$noted.output" && : >"$noted.begun" &&
            sync "$noted.begun" .interlock/steps .interlock; } 2>&1) ||
            { ended failed "that the step begins cannot be noted: $problem" && return; }
        reason='' told=
        hook "$release" RunbookStep "$1" "$2" "$3" || told=yes
        tail -c 4000 "$output" >"$noted.output"
        problem=$({ say "$code" >"$noted.new" && sync "$noted.new" && mv -fT "$noted.new" "$noted.ended" &&
            sync .interlock/steps; } 2>&1) || answer "warn how the step ended may not be on the disk: $problem"
        answer "ran $code"
        [ -n "$told" ] || last_lines "$output"
    fi
    if [ "$code" = 0 ]; then ended done; else ended failed "${reason:-the step ended with $code}"; fi
}

# .interlock/placed names the files that releases have put somewhere; .interlock/foreign has what stood there before;
# .interlock/made names the folders that were made for them, and .interlock/permitted those of which permissions spoke.
# Each file is renamed into its place, so that it is always the old or the new one; all of them together are not: when
# the host is switched off in between, the retry or the way back puts them right. There may be many thousands: a process
# is started for each of them only if it stood there before all releases, and goes back.
#
# A folder gives way to a file, or a file to a folder, only if releases put there all that it is. What is somebody's is
# in the way: a release that needs its place is refused before anything is stopped. When that is found out on the way
# back to a release that ran, which had to live with it, it is left alone and told.

entries() { # RELEASE WORD: what its AppSpec says, each as "value value value rest"
    while IFS=' ' read -r owner word rest; do
        [ "$owner $word" != "$1 $2" ] || say "$rest"
    done <<EOF
$hooks
EOF
}

prepare() {
    reason=''
    accounts=$(entries "$release" account)
    while IFS=' ' read -r account rest; do
        [ -n "$account" ] || continue
        become=env && as_account "$account"
        problem=$($become true 2>&1 </dev/null) || {
            ended failed "hooks are to run as $account, and $(id -un) may not do that here: $problem" && return
        }
    done <<EOF
$accounts
EOF
    if may_place "$release"; then ended done; else ended failed "$reason"; fi
}

may_place() { # RELEASE [settle]
    case $newline$hooks in *"$newline$1 files "*) ;; *) return 0 ;; esac
    is_listed || answer "warn $roots cannot be written, so files of other services at the same path are not detected"
    list_files "$@"
}

list_files() { # RELEASE [settle | restore]: what is to stand where; may it?
    reason=
    { targets "$1" && kinds "$1" "${2:-}" && strangers "${2:-}"; } 2>.interlock/problem && return
    [ -n "$reason" ] || reason="the files of $1 cannot be listed: $(head -c 1000 .interlock/problem)"
    return 1
}

# No list is made by a pipe: that one of its commands failed would not be seen, and what is not listed would be lost.

targets() { # RELEASE: write the names of the files that it puts somewhere, and of the folders that these need
    : >>.interlock/placed && : >>.interlock/made && entries "$1" files >.interlock/listed &&
        : >.interlock/placing.new && : >.interlock/needed || return
    while IFS=' ' read -r none none none pair; do
        destination=${pair#*"$tab"} source=${pair%%"$tab"*}
        if [ ! -d "releases/$1/$source" ]; then
            say "$destination/${source##*/}" >>.interlock/placing.new &&
                say "$destination" >>.interlock/needed || return
        else
            below "releases/$1/$source" "$destination" ! -type d ! -path ./.interlock.json >>.interlock/placing.new &&
                below "releases/$1/$source" "$destination" -type d >>.interlock/needed || return
        fi
        while destination=${destination%/*} && [ -n "$destination" ]; do
            say "$destination" >>.interlock/needed || return
        done
    done <.interlock/listed
    sorted .interlock/placing.new >.interlock/placing && sorted .interlock/placed >.interlock/placed.new &&
        sorted .interlock/made >.interlock/made.new
}

below() { # FOLDER START CONDITION...: what is there, START in the place of FOLDER
    start=$2
    (cd -- "$1" && shift 2 && find . "$@") >.interlock/below || return
    while IFS= read -r name; do say "$start${name#.}" || return; done <.interlock/below
}

sorted() { LC_ALL=C sort -u "$@"; }

both() { LC_ALL=C comm "$@"; } # sorted lists: -23 what is only in the first, -13 only in the second, -12 in both

# What stands where another kind of thing is to stand: what is releases' own is in .interlock/giving, what is somebody's
# in .interlock/blocked. What stays as it is, and is not placed, is in .interlock/spared.
kinds() { # RELEASE [settle | restore]: may they be?
    IFS=' ' read -r behaviour none <.interlock/listed || behaviour=
    : >.interlock/spared && : >.interlock/giving && : >.interlock/blocked && : >.interlock/odd.new || return
    while IFS= read -r path; do
        [ -d "$path" ] && [ ! -h "$path" ] || { [ ! -e "$path" ] && [ ! -h "$path" ]; } || say "$path" || return
    done <.interlock/needed >.interlock/odd.new
    sorted .interlock/odd.new >.interlock/odd && both -23 .interlock/odd .interlock/placed.new >.interlock/odd.theirs &&
        both -12 .interlock/odd .interlock/placed.new >.interlock/odd.own || return
    while IFS= read -r path; do
        [ -d "$path" ] || say "$path" || return # a link to a folder is one
    done <.interlock/odd.theirs >.interlock/blocked
    while IFS= read -r path; do own_or "$path" .interlock/blocked || return; done <.interlock/odd.own
    in_the_way=.interlock/blocked
    [ "$behaviour" != RETAIN ] || in_the_way=.interlock/spared
    while IFS= read -r path; do
        [ ! -d "$path" ] || [ -h "$path" ] || own_or "$path" "$in_the_way" || return
    done <.interlock/placing
    [ -s .interlock/blocked ] || return 0
    [ "${2:-}" != restore ] || { spare; return; }
    IFS= read -r path <.interlock/blocked
    reason="$path is in the way: the release has a file where a folder stands, or a folder where a file stands, and no \
release put there all that it is. Whatever file_exists_behavior says, the one is not replaced by the other"
    return 1
}

own_or() { # PATH LIST: note it as giving way, if releases put there all that it is; or else in LIST
    all_below ".interlock/foreign$1" ! -type d >.interlock/others || return
    if [ -d "$1" ] && [ ! -h "$1" ]; then
        find "$1" ! -type d >.interlock/below && sorted .interlock/below >.interlock/below.new &&
            both -23 .interlock/below.new .interlock/placed.new >>.interlock/others &&
            find "$1" -type d >.interlock/below && sorted .interlock/below >.interlock/below.new &&
            both -23 .interlock/below.new .interlock/made.new >>.interlock/others || return
    fi
    if [ -s .interlock/others ]; then say "$1" >>"$2"; else say "$1" >>.interlock/giving; fi
}

all_below() { # PATH CONDITION...: names of what is there, with itself
    [ ! -e "$1" ] && [ ! -h "$1" ] || find "$@"
}

spare() { # leave alone what is blocked, and what would be below it
    while IFS= read -r path; do
        answer "tail $path is not from a release and is in the way of the release's files: it was left unchanged"
        say "$path" >>.interlock/spared || return
        while IFS= read -r name; do
            case $name in "$path" | "$path"/*) ;; *) say "$name" || return ;; esac
        done <.interlock/placing >.interlock/placing.new
        mv -f .interlock/placing.new .interlock/placing || return
    done <.interlock/blocked
}

is_free() { # [settle | restore]: of what another service placed, its own stays; whoever needs its place is refused
    [ -f "$there/.interlock/placed" ] || return 0
    sorted "$there/.interlock/placed" >.interlock/theirs.new &&
        both -12 .interlock/placing.new .interlock/theirs.new >.interlock/theirs || return
    [ -s .interlock/theirs ] || return 0
    [ -z "$1" ] || { cat .interlock/theirs >>.interlock/blocked && return; }
    IFS= read -r path <.interlock/theirs
    reason="$path was put there by a release of $theirs in $stage, whose folder is $there. Whatever file_exists_behavior \
says, two services do not place the same file; if $theirs has left this host, remove $there"
    return 1
}

# Files that are there, and that no release put there, in .interlock/strangers.
strangers() { # [settle | restore]: may they be?
    both -23 .interlock/placing .interlock/placed.new >.interlock/placing.new && : >.interlock/blocked || return
    [ "$behaviour" = RETAIN ] || others is_free "${1:-}" || return
    [ ! -s .interlock/blocked ] || { spare && both -23 .interlock/placing .interlock/placed.new >.interlock/placing.new; } ||
        return
    while IFS= read -r path; do
        [ -d "$path" ] && [ ! -h "$path" ] || { [ ! -e "$path" ] && [ ! -h "$path" ]; } || say "$path" || return
    done <.interlock/placing.new >.interlock/strangers
    case $behaviour in
        RETAIN)
            sorted .interlock/strangers .interlock/spared >.interlock/spared.new &&
                mv -f .interlock/spared.new .interlock/spared && : >.interlock/strangers &&
                both -23 .interlock/placing .interlock/spared >.interlock/placing.new &&
                mv -f .interlock/placing.new .interlock/placing
            ;;
        DISALLOW)
            [ -z "${1:-}" ] && [ -s .interlock/strangers ] || return 0
            IFS= read -r path <.interlock/strangers
            reason="$path is there, no release put it there, and file_exists_behavior is DISALLOW"
            return 1
            ;;
    esac
}

place() { # RELEASE [settle | restore]: its files in their places, and no other release's
    case $newline$hooks in *"$newline$1 files "*) ;; *) [ -s .interlock/placed ] || return 0 ;; esac
    rightful
    answer "step Install"
    list_files "$@" || return
    problem=$(place_all "$1" 2>&1) && return
    rightful
    unstage
    reason="the files of $1 cannot be put in their places: $problem"
    return 1
}

unstage() { # what was copied aside, and not moved into its place
    [ -f .interlock/pairs ] || return 0
    while IFS=' ' read -r none none none pair; do rm -rf -- "${pair#*"$tab"}/.interlock-new"; done <.interlock/pairs
    rm -f .interlock/pairs
}

place_all() { # RELEASE
    # What is under way is noted first: a retry then knows these files for releases' own.
    keep_strangers && sorted .interlock/placed .interlock/placing >.interlock/placed.new &&
        mv -f .interlock/placed.new .interlock/placed && sync .interlock/placed .interlock || return 1
    entries "$1" files >.interlock/pairs && entries "$1" permission >.interlock/permissions && give_way || return 1
    while IFS=' ' read -r none none none pair; do
        ! is_spared "${pair#*"$tab"}" || continue
        rightful_still && stage "$1" "${pair%%"$tab"*}" "${pair#*"$tab"}" && permit_files "${pair#*"$tab"}" &&
            rightful_still && make_folders "${pair#*"$tab"}" && move_in "${pair#*"$tab"}" || return 1
    done <.interlock/pairs
    rm -f .interlock/pairs && both -13 .interlock/placing .interlock/placed >.interlock/leaving || return 1
    while IFS= read -r path; do
        rightful_still || return 1
        if [ -e ".interlock/foreign$path" ] || [ -h ".interlock/foreign$path" ]; then
            { [ ! -d "$path" ] || [ -h "$path" ]; } && mv -fT ".interlock/foreign$path" "$path" ||
                answer "warn the original $path could not be restored: it is in .interlock/foreign"
        elif [ -h "$path" ] || { [ -e "$path" ] && [ ! -d "$path" ]; }; then
            say "$path" >&3 || return 1
        fi
    done <.interlock/leaving 3>.interlock/removed
    rightful_still && each .interlock/removed rm -f && mv -f .interlock/placing .interlock/placed
}

give_way() { # what releases put where another kind of thing is to stand now
    while IFS= read -r path; do
        rightful_still || return
        if [ -h "$path" ] || [ ! -d "$path" ]; then
            rm -f -- "$path" || return
            continue
        fi
        find "$path" -type d >.interlock/gone.new && sorted .interlock/gone.new >.interlock/gone &&
            find "$path" ! -type d -exec rm -f -- '{}' + &&
            find "$path" -depth -type d -exec rmdir -- '{}' + || return
        sorted .interlock/made >.interlock/made.old &&
            both -23 .interlock/made.old .interlock/gone >.interlock/made.new &&
            mv -f .interlock/made.new .interlock/made || return
    done <.interlock/giving
}

is_spared() { # FOLDER: it, or one above it
    while IFS= read -r path; do
        case $1 in "$path" | "$path"/*) return 0 ;; esac
    done <.interlock/spared
    return 1
}

each() { # FILE COMMAND...: with the lines of a file, which are names and no options
    list=$1 && shift
    tr '\n' '\0' <"$list" >"$root/.interlock/names" && xargs -0 -r "$@" <"$root/.interlock/names"
}

keep_strangers() { # copy what is overwritten aside
    [ -s .interlock/strangers ] || return 0
    # cp cannot do it with names that begin with a slash.
    while IFS= read -r path; do say "./${path#/}" || return; done <.interlock/strangers >.interlock/kept
    mkdir -p .interlock/foreign &&
        (cd / && each "$root/.interlock/kept" cp -a --parents -t "$root/.interlock/foreign")
}

stage() { # RELEASE SOURCE DESTINATION: copy aside, in the destination
    way=$3
    while [ -n "$way" ] && [ ! -d "$way" ]; do
        say "$way" >>.interlock/made || return
        way=${way%/*}
    done
    mkdir -p -- "$3" && rm -rf -- "$3/.interlock-new" && mkdir -- "$3/.interlock-new" || return 1
    if [ -d "releases/$1/$2" ]; then
        cp -a -- "releases/$1/$2/." "$3/.interlock-new/" && rm -f -- "$3/.interlock-new/.interlock.json"
    else
        cp -a -- "releases/$1/$2" "$3/.interlock-new/"
    fi || return 1
    [ -s .interlock/spared ] || return 0
    while IFS= read -r path; do
        case $path in "$3"/*) say "$3/.interlock-new${path#"$3"}" || return ;; esac
    done <.interlock/spared >.interlock/retained
    each .interlock/retained rm -rf
}

permit_files() { # DESTINATION: owners and modes of what is staged there
    below "$1/.interlock-new" "$1" -type f >.interlock/things && permit file "$1" "$1/.interlock-new" &&
        find "$1/.interlock-new" -type f -exec sync '{}' +
}

# A folder that was there before all releases is nobody's to change. One that was made for them is as the release that
# is placed says; what permissions said of it once, and say no more, is undone.
make_folders() { # DESTINATION
    staged=$1/.interlock-new
    (cd -- "$staged" && find . -type d) >.interlock/folders || return 1
    while IFS= read -r name; do
        path=$1${name#.}
        [ -d "$path" ] || { say "$path" >>.interlock/made && mkdir -p -- "$path" &&
            as "$staged/$name" chmod "$path" && as "$staged/$name" chown "$path"; } || return 1
    done <.interlock/folders
    : >>.interlock/made && sorted .interlock/made >.interlock/made.new && mv -fT .interlock/made.new .interlock/made &&
        : >>.interlock/permitted && sorted .interlock/permitted >.interlock/permitted.new || return 1
    {
        way=$1
        while way=${way%/*} && [ -n "$way" ]; do say "$way"; done
        while IFS= read -r name; do say "$1${name#.}"; done <.interlock/folders
    } >.interlock/things.new
    sorted .interlock/things.new >.interlock/things.all &&
        both -12 .interlock/things.all .interlock/made >.interlock/things &&
        both -12 .interlock/things .interlock/permitted.new >.interlock/undone || return 1
    as_staged chown "$1" || return 1
    permit directory '' '' || return 1
    sorted .interlock/moded >.interlock/moded.new &&
        both -23 .interlock/undone .interlock/moded.new >.interlock/undone.new &&
        mv -f .interlock/undone.new .interlock/undone && as_staged chmod "$1"
}

as_staged() { # chown|chmod DESTINATION: folders, as the release has them
    while IFS= read -r path; do
        case $path in "$2" | "$2"/*) as "$2/.interlock-new${path#"$2"}" "$1" "$path" || return 1 ;; esac
    done <.interlock/undone
}

as() { # EXAMPLE chmod|chown PATH
    # GNU's chmod leaves a folder's setgid as it is unless the mode has five digits.
    [ "$2" = chmod ] && format=00%a || format=%u:%g
    example=$(stat -c "$format" -- "$1") && "$2" "$example" -- "$3"
}

permit() { # file|directory START PLACE: what permissions say of .interlock/things; what begins with START is at PLACE
    : >.interlock/moded
    while IFS=' ' read -r verb value kinds rest; do
        case $kinds in both | "$1") ;; *) continue ;; esac
        IFS=$tab read -r object pattern excepted <<EOF
$rest
EOF
        object=${object%/}
        while IFS= read -r path; do
            ! is_meant "$1" "$path" || say "$3${path#"$2"}" || return
        done <.interlock/things >.interlock/meant
        [ "$verb" != chmod ] || cat .interlock/meant >>.interlock/moded
        [ "$1" = file ] || cat .interlock/meant >>.interlock/permitted
        each .interlock/meant "$verb" "$value" || return 1
    done <.interlock/permissions
}

is_meant() { # file|directory PATH: by $object, $pattern and $excepted, as in CodeDeploy
    below=${2#"$object"/}
    [ "$below" != "$2" ] || { [ "$1 $2" = "file $object" ]; return; }
    case $pattern in '**') ;; *) case $below in */*) return 1 ;; $pattern) ;; *) return 1 ;; esac ;; esac
    [ -n "$excepted" ] || return 0
    IFS=$tab
    for one in $excepted; do
        # A name is that of something directly in the object.
        case $one in */*) ;; *) case $below in */*) continue ;; esac ;; esac
        case $below in $one) IFS=$usual && return 1 ;; esac
    done
    IFS=$usual
}

move_in() { # DESTINATION: each staged file by one rename
    while IFS= read -r name; do
        rightful_still || return 1
        find "$1/.interlock-new/$name" -mindepth 1 -maxdepth 1 ! -type d -exec mv -f -t "$1/$name" -- '{}' + || return 1
    done <.interlock/folders
    rm -rf -- "$1/.interlock-new"
}

finish() { # KEEP PREVIOUS: PREVIOUS is what ran before and stays; "=": as it was
    previous=$2
    if [ "$previous" = = ]; then
        previous=-
        [ ! -f .interlock/previous ] || IFS= read -r previous <.interlock/previous
    else
        printf '%s\n' "$previous" >.interlock/previous.new && mv -fT .interlock/previous.new .interlock/previous
    fi
    set +f
    rm -f .interlock/journal .interlock/started .interlock/link.*
    set -f
    ls -1t releases >.interlock/releases
    note_what_ran
    prune "$1"
    set +f
    set -- releases/.gone*
    set -f
    [ ! -e "$1" ] || problem=$(rm -rf "$@" 2>&1) || answer "warn old files cannot be removed:" $problem
    ended done
}

# Releases that ran, and were well, are in .interlock/ran; of those that are here from before there was such a list, all
# may have.
note_what_ran() {
    ran=$newline
    if [ -f .interlock/ran ]; then
        while IFS= read -r name; do ! exists "$name" || ran=$ran$name$newline; done <.interlock/ran
    else
        while IFS= read -r name; do [ "$name" = "$release" ] || ran=$ran$name$newline; done <.interlock/releases
    fi
    [ "$now" = - ] || has_run "$now" || ran=$ran$now$newline
    printf '%s' "${ran#"$newline"}" >.interlock/ran.new && mv -fT .interlock/ran.new .interlock/ran
}

has_run() { # RELEASE
    case $ran in *"$newline$1$newline"*) ;; *) return 1 ;; esac
}

prune() { # KEEP of those that ran, 0: all; of the others only what this session brought stays, for a retry
    left=$1
    [ "$now" = - ] || left=$((left - 1))
    [ "$previous" = - ] || [ "$previous" = "$now" ] || left=$((left - 1))
    while IFS= read -r name; do
        exists "$name" && [ "$name" != "$now" ] && [ "$name" != "$previous" ] || continue
        if has_run "$name"; then
            left=$((left - 1))
            [ "$1" != 0 ] && [ "$left" -lt 0 ] || continue
        elif [ "$name" = "$release" ]; then
            continue
        fi
        rightful_still || continue
        problem=$(put_aside "$name" 2>&1) || { answer "warn $name cannot be removed:" $problem && continue; }
        set +f
        rm -f .interlock/output/"$name".* ".interlock/manifests/$name.gz"
        set -f
    done <.interlock/releases
}

unset mark # what the environment has of that name would be handed to hooks
IFS= read -r mark && [ -n "$mark" ] || exit
exec 8>&1 >/dev/null
verb=$1 && shift
case $verb in
    ask) ask "$@" ;;
    look) look_at "$@" ;;
    session) session "$@" ;;
    close) close "$@" ;;
esac
