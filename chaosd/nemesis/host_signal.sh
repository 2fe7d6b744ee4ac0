# Sends a signal to the first process of a container, from the PID namespace of its node:
#   sh -c THIS chaosd-host-signal CONTAINER_ID TERM|KILL
#
# The processes of a container are those with its id in their cgroup. The first is the oldest of those whose parent is none of
# them: the runtime started it, as it did what exec started since. Source: proc(5), /proc/pid/stat and /proc/pid/cgroup.
# Exit status: 0 sent, 3 not sent (stderr says why).

id=$1 signal=$2
proc=${CHAOSD_PROC:-/proc}
LC_ALL=C

refuse() {
  echo "$1" >&2
  exit 3
}

is_ours() {
  { while IFS= read -r line; do case $line in *"$id"*) return 0 ;; esac; done <"$proc/$1/cgroup"; } 2>/dev/null
  return 1
}

case $id in *[!0-9a-f]* | '') refuse "$id is no container id" ;; esac

first='' began=''
for folder in "$proc"/[0-9]*; do
  pid=${folder##*/}
  is_ours "$pid" || continue
  { IFS= read -r stat <"$folder/stat"; } 2>/dev/null || continue
  set -- ${stat##*) }
  is_ours "$2" && continue
  if [ -z "$first" ] || [ "${20}" -lt "$began" ]; then
    first=$pid began=${20}
  fi
done

[ -n "$first" ] || refuse "no process on this node has $id in its cgroup"
kill -s "$signal" "$first" || refuse "process $first could not be signalled"
