#!/bin/busybox sh
# The first process of the machine. vm.rs puts values in place of the @NAMES@.
export PATH=/bin
/bin/busybox --install -s /bin

stop() {
  echo "$1"
  poweroff -f
}

# Lays a file system in memory over a folder, elsewhere.
lay() {
  layers=$((layers + 1))
  mkdir -p "/memory/$layers/upper" "/memory/$layers/work" "$2" &&
    mount -t overlay -o "lowerdir=$1,upperdir=/memory/$layers/upper,workdir=/memory/$layers/work" overlay "$2"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

# Whatever becomes of the host's side, the machine does not outlive its bound.
(sleep @BOUND@ && poweroff -f) &

for module in /modules/*; do
  insmod "$module" || stop "a module cannot be loaded"
done

mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose,access=any host /host &&
  mount -t tmpfs -o size=75% tmpfs /memory &&
  lay @ROOT@ /root ||
  stop "the host's files cannot be reached"
for folder in @SHARED@; do
  lay "/host$folder" "/root$folder" || stop "$folder cannot be reached"
done

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
mount -t tmpfs -o mode=755 tmpfs /root/run
mkdir -m 1777 /root/run/lock
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
  ln -sfn "${link#*:}" "/root/dev/${link%%:*}"
done
hostname localhost
ip link set lo up

# No terminal, and a session of its own: as tests run where nobody looks on.
cp /script /root/run/script
echo "@BEGIN@"
{ setsid chroot /root /bin/sh /run/script </dev/null; echo $? >/status; } 2>&1 | cat
echo
stop "@STATUS@$(cat /status)"
