# chaosd's probe for targets that have a POSIX shell (busybox or coreutils). Protocol: chaosd/probe/protocol.py.
# Usage: sh -c READ_IT chaosd-probe MOUNT FOLDER RUN LIFETIME_SECONDS, and then this by its stdin
set -u
export LC_ALL=C
mount=$1 base=$1/$2 run=$1/$2/$3 stage=$1/$2/$3/stage lifetime=$4
proc=${CHAOSD_PROC:-/proc}
direct='' cache=''

# A process started by exec can outlive its connection (opencontainers/runc#3359): this one ends with its input, or by
# itself. The watchdog and its sleep are both waited for, since PID 1 of the container may not reap orphans.
(
  # It looks every now and then whether the shell is still there: one that was killed cannot end it.
  # $! is set in one step with the start, so no sleep is missed by an early TERM; and KILL, since a child that was forked a
  # moment ago still has the shell's handler and would forget a TERM.
  trap 'kill -9 ${!:-} 2>/dev/null; wait ${!:-} 2>/dev/null; exit 0' TERM
  while [ "$lifetime" -gt 0 ]; do
    sleep $((lifetime < 20 ? lifetime : 20)) &
    wait $!
    kill -0 $$ 2>/dev/null || exit 0
    lifetime=$((lifetime - 20))
  done
  grep -q chaosd-probe "/proc/$$/cmdline" && kill -9 $$
) </dev/null >/dev/null 2>&1 &
watchdog=$!
trap 'kill $watchdog 2>/dev/null; wait $watchdog 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM PIPE

say() {
  printf '%s\n' "$*"
  lines=$((lines + 1))
}

# The error in $message, as far as its first line goes, unless it is that there is no such thing.
say_unless_gone() {
  case $message in
  *'No such file or directory'*) ;;
  *) say "$1 ${message%%[!!-~ ]*}" ;;
  esac
}

# Can this file system read past the page cache? Tried once, on the first of the run's files that can be read at all.
choose_cache() {
  for name in "$@"; do
    [ -n "$cache" ] && return
    [ -f "$run/$name" ] || continue
    if dd if="$run/$name" iflag=direct bs=4096 count=1 >/dev/null 2>&1; then
      direct=iflag=direct cache=cold
    elif dd if="$run/$name" bs=4096 count=1 >/dev/null 2>&1; then
      cache=cached
    fi
  done
}

hello() {
  for tool in dd sha256sum od mv rm ls sync mkdir sleep; do
    command -v "$tool" >/dev/null 2>&1 || say "lacks $tool"
  done
  printf ab | dd bs=2 count=1 iflag=fullblock conv=fsync 2>/dev/null >/dev/null ||
    printf ab | dd bs=2 count=1 iflag=fullblock 2>/dev/null >/dev/null || say 'lacks dd iflag=fullblock'
  say "mount $mount"
  [ -d "$mount" ] || say "absent $mount"
  word=$(cd -P "$mount" 2>/dev/null && pwd -P) && say "resolved $word"
  [ -r "$proc/sys/kernel/hostname" ] && read -r word <"$proc/sys/kernel/hostname" && say "hostname $word"
  [ -r "$proc/sys/kernel/random/boot_id" ] && read -r word <"$proc/sys/kernel/random/boot_id" && say "boot $word"
  # What cannot be read is not therefore gone.
  if [ -L "$base/identity" ] || { [ -e "$base/identity" ] && [ ! -f "$base/identity" ]; }; then
    say "identity $(ls -ld "$base/identity" 2>&1)"
  elif message=$(dd if="$base/identity" bs=4096 count=1 of=/dev/null 2>&1); then
    word='' && read -r word <"$base/identity"
    say "identity $word"
  else
    say_unless_gone unreadable
  fi
  for entry in "$base"/* "$base"/.[!.]* "$base"/..?*; do
    if [ "$entry" = "$base/identity" ]; then
      continue
    elif [ -d "$entry" ]; then
      say "folder ${entry##*/}"
    elif [ -e "$entry" ] || [ -L "$entry" ]; then
      say "stray ${entry##*/}"
    fi
  done
  space=$(stat -f -c '%a %S %c %d %b' "$mount" 2>/dev/null) && say "space $space"
  if [ -r "$proc/fsid" ]; then
    read -r word <"$proc/fsid" && say "fsid $word"
  else
    word=$(stat -f -c %i "$mount" 2>/dev/null) && say "fsid $word"
  fi
  for entry in "$mount"/* "$mount"/.[!.]* "$mount"/..?*; do
    [ -e "$entry" ] || [ -L "$entry" ] && say "entry ${entry##*/}"
  done
  while read -r word; do say "mountinfo $word"; done <"$proc/self/mountinfo"
}

# Make the folders, and write the identity file where there is none. Each folder that was made is fsynced in its parent.
begin() {
  read -r length
  [ -d "$stage" ] || {
    message=$(mkdir -p "$stage" 2>&1 && sync "$mount" "$base" "$run" 2>&1) || {
      say "failed $message"
      drain "$length"
      return
    }
  }
  rm -f "$stage"/*
  if [ -e "$base/identity" ]; then
    drain "$length"
  elif receive identity "$length"; then
    message=$(mv -f "$stage/identity" "$base/identity" 2>&1 && sync "$base" 2>&1) || say "failed $message"
  else
    say "failed $message"
  fi
}

drain() { dd bs="$1" count=1 iflag=fullblock >/dev/null 2>&1; }

# Store the next $2 bytes of the input as $stage/$1, durably. dd's own count tells a block cut short by a lost session.
receive() {
  if { true >"$stage/$1"; } 2>/dev/null; then
    message=$(dd bs="$2" count=1 iflag=fullblock conv=fsync 2>&1 >"$stage/$1") &&
      case $message in '1+0 records in'*) return 0 ;; esac
    rm -f "$stage/$1"
  else
    message=$({ true >"$stage/$1"; } 2>&1)
    drain "$2"
  fi
  message=${message%%[!!-~ ]*}
  return 1
}

store() {
  put "$1"
  overwrite "$2"
  append "$3"
}

# All files of a request are renamed together and share one fsync of the folder.
put() {
  stored=''
  while [ "$1" -gt 0 ]; do
    read -r name length || exit 1
    if receive "$name" "$length"; then stored="$stored $name"; else say "failed $name $message"; fi
    set -- $(($1 - 1))
  done
  [ -n "$stored" ] || return
  message=$(cd "$stage" && mv -f $stored "$run/" 2>&1 && sync "$run" "$stage" 2>&1) || {
    for name in $stored; do say "unknown $name $message"; done
    return
  }
  say "stored$stored"
}

# In place: where it fails, part of it may be there.
overwrite() {
  while [ "$1" -gt 0 ]; do
    read -r name length || exit 1
    if [ ! -f "$run/$name" ]; then
      drain "$length"
      say "unknown $name No such file or directory"
    elif { true >>"$run/$name"; } 2>/dev/null; then
      message=$(dd bs="$length" count=1 iflag=fullblock conv=notrunc,fsync of="$run/$name" 2>&1)
      told_by_dd $?
    else # dd would leave the bytes in the input, and they would be taken for requests
      message=$({ true >>"$run/$name"; } 2>&1)
      drain "$length"
      say "unknown $name $message"
    fi
    set -- $(($1 - 1))
  done
}

# The first append makes the file, which the folder must keep.
append() {
  while [ "$1" -gt 0 ]; do
    read -r name length || exit 1
    new=''
    [ -e "$run/$name" ] || new=$run
    if { true >>"$run/$name"; } 2>/dev/null; then
      message=$( { dd bs="$length" count=1 iflag=fullblock conv=fsync 2>&3 >>"$run/$name"; } 3>&1 && { [ -z "$new" ] || sync "$run" 2>&1; })
      told_by_dd $?
    else
      message=$({ true >>"$run/$name"; } 2>&1)
      drain "$length"
      say "unknown $name $message"
    fi
    set -- $(($1 - 1))
  done
}

told_by_dd() {
  case $1$message in
  '01+0 records in'*) say "stored $name" ;;
  *) say "unknown $name ${message%%[!!-~ ]*}" ;;
  esac
}

# Two at a time: starting dd and sha256sum takes longer than reading does. Lines are told by the dozen, since each write
# crosses kubelet and API server in a frame of its own; below 4096 bytes two writers' cannot mix (POSIX, PIPE_BUF). Of
# each file $1 blocks of 64 KiB are read at most, which is more than it should have: a giant in its place costs no more.
sums() {
  most=$1
  shift
  choose_cache "$@"
  sum_every_second 0 "$@" &
  sum_every_second 1 "$@"
  wait $!
  lines=$#
}

sum_every_second() {
  turn=$1 told='' untold=0
  shift
  for name in "$@"; do
    turn=$((1 - turn))
    [ $turn = 0 ] && continue
    if [ -f "$run/$name" ] && [ ! -L "$run/$name" ]; then
      told="$told$name ${cache:-cached} $(dd if="$run/$name" $direct bs=65536 count="$most" 2>/dev/null | sha256sum)
"
    elif [ -e "$run/$name" ] || [ -L "$run/$name" ]; then
      told="$told$name irregular $(ls -ld "$run/$name" 2>&1)
"
    else
      told="$told$name absent $(ls -d "$run/$name" 2>&1)
"
    fi
    untold=$((untold + 1))
    [ $untold -lt 12 ] || { printf %s "$told" && told='' untold=0; }
  done
  printf %s "$told"
}

fetch() {
  choose_cache "$2"
  message=$(dd if="$run/$2" $direct bs=65536 count="$1" of=/dev/null 2>&1) || {
    say "failed $message"
    return
  }
  say "cache ${cache:-cached}"
  dd if="$run/$2" $direct bs=65536 count="$1" 2>/dev/null | od -An -v -tx1
}

list() {
  message=$(ls -A "$run" 2>&1) || {
    say_unless_gone failed
    return
  }
  say 'names'
  printf '%s\n' "$message"
}

drop() {
  message=$(cd "$run" && rm -f "$@" 2>&1 && sync "$run" 2>&1) || say "failed $message"
}

while read -r nonce verb arguments; do
  lines=0
  case $verb in
  hello | begin | store | sums | fetch | list | drop) $verb $arguments ;;
  *) say "failed no such verb: $verb" ;;
  esac
  printf '%s end %s\n' "$nonce" "$lines"
done
exit 0
