#!/bin/sh
# Boots one throw-away host. Runs as pid 1 of fresh mount, pid and uts namespaces and ends as the host's init.
#   boot.sh HOST_FOLDER NAME SERVICES PYTHON [MOUNT_POINT…]
# HOST_FOLDER holds upper/ work/ root/ run/ docker/ (and shared, a link to another host's run/) and lies on a tmpfs. SERVICES is shell
# code; the mount points are real file systems besides the root that the host must see as well.
set -eu
folder=$1 name=$2 services=$3 python=$4
shift 4
cd "$folder"

# /proc still belongs to the outer pid namespace: this is the pid by which the owner knows the host.
read -r pid _ </proc/self/stat
echo "$pid" >pid

mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay root
mount --rbind /dev root/dev
mount --rbind /sys root/sys
mount -t proc proc root/proc
for point in "$@"; do mount --rbind "$point" "root$point"; done
mount --bind run root/run
[ -L root/var/run ] || mount --bind run root/var/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
mount --bind docker root/var/lib/docker
[ ! -e shared ] || mount --bind "$(readlink -f shared)" root/srv/engine
echo "$name" >/proc/sys/kernel/hostname

cd root
pivot_root . .outside
cd /
umount -l /.outside

sh -c "$services" </dev/null
exec "$python" -I -S /etc/fleet_init.py "$folder"
