# Sends a signal to the first process of the container that this runs in: sh -c THIS chaosd-signal TERM|KILL
#
# It tells `first PID` once it knows the process and that the signal would arrive, and sends it when it is told so by a line
# on its stdin; where its input ends instead, nothing is sent. Until then whoever asks can make sure whose container this is.
# Exit status: 0 sent, 3 refused (stderr says why), 4 nobody asked any more.
#
# What it knows of processes it reads from /proc, with what POSIX has of a shell, and readlink where there is one.

signal=$1
proc=${CHAOSD_PROC:-/proc}
LC_ALL=C

refuse() {
  echo "$1" >&2
  exit 3
}

# The lines of a file of /proc, in `text`; empty where the process is gone or of somebody else's.
read_file() {
  text=
  { while IFS= read -r line; do text="$text$line;"; done <"$1"; } 2>/dev/null
}

# One of the masks of signals of a process (SigCgt, SigBlk, SigIgn), in `mask`. Source: proc(5), /proc/pid/status.
read_mask() {
  mask=
  { while read -r name value; do [ "$name" != "$2:" ] || mask=$value; done <"$proc/$1/status"; } 2>/dev/null
}

# Whether SIGTERM, the 15th, is in `mask`, in hexadecimal.
mask_has_term() {
  case $mask in *[4567cdef]???) return 0 ;; esac
  return 1
}

# Whether a process is in this container: in the same mount namespace. Whose namespaces may not be read, since it runs as
# another user, is told by its cgroup, as it is seen from here.
is_ours() {
  mounts=$(readlink "$proc/$1/ns/mnt" 2>/dev/null)
  if [ -n "$mounts" ] && [ -n "$our_mounts" ]; then
    [ "$mounts" = "$our_mounts" ]
  else
    read_file "$proc/$1/cgroup"
    [ -n "$text" ] && [ "$text" = "$our_cgroup" ]
  fi
}

our_mounts=$(readlink "$proc/self/ns/mnt" 2>/dev/null)
read_file "$proc/self/cgroup"
our_cgroup=$text

# What the runtime started has its parent outside of the PID namespace: the container's first process, and whatever exec
# started since, this program among it. The first is the oldest. Source: pid_namespaces(7); proc(5), /proc/pid/stat.
first='' began=''
for folder in "$proc"/[0-9]*; do
  pid=${folder##*/}
  [ "$pid" != "$$" ] || continue
  read_file "$folder/stat"
  set -- ${text##*) }
  [ "$2" = 0 ] && is_ours "$pid" || continue
  if [ -z "$first" ] || [ "${20}" -lt "$began" ]; then
    first=$pid began=${20}
  fi
done

read_file "$proc/1/cgroup"
if [ -z "$first" ]; then
  refuse "its first process is not to be seen from inside: the pod has the node's processes (hostPID), or /proc hides others'"
elif [ "$first" != 1 ] && [ -n "$text" ] && [ "$text" = "$our_cgroup" ]; then
  refuse "its first process cannot be told for sure: process 1 has the same cgroup, but other mounts"
fi
kill -0 "$first" 2>/dev/null || refuse "process $first runs as another user, and the container's own may not signal it"

# Process 1 of a PID namespace gets from inside what it handles, and what it blocks, since who blocks a signal waits for it
# (sigwait, signalfd: tini, catatonit); nothing else, and SIGKILL never. Source: pid_namespaces(7); kernel/signal.c, sig_ignored.
if [ "$first" = 1 ]; then
  [ "$signal" = TERM ] ||
    refuse "process 1 of a PID namespace gets no SIG$signal from inside it: send TERM, or set shareProcessNamespace"
  read_mask 1 SigCgt
  [ -n "$mask" ] || refuse "/proc/1/status does not tell which signals process 1 handles"
  mask_has_term || { read_mask 1 SigBlk && mask_has_term; } ||
    refuse "process 1 does not handle SIGTERM, so it gets none from inside its PID namespace: set shareProcessNamespace"
elif [ "$signal" = TERM ]; then
  read_mask "$first" SigIgn
  if mask_has_term; then refuse "process $first ignores SIGTERM: send KILL"; fi
fi

echo "first $first"
read -r _ || exit 4
kill -s "$signal" "$first" || refuse "process $first could not be signalled"
