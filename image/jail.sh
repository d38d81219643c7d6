#!/usr/bin/env bash
# jail.sh FOLDER PYTHON SCRIPT: run a script as the image's user in what a container of the image would see.
#
# A root filesystem of its own: FOLDER as /opt/cvntrade, PYTHON's own folder, the system's libraries, a shell and a few
# tools, two accounts, all of it read-only; /tmp and /dev/shm empty and writable. No network but a loopback, no process of
# this machine, no environment but the Dockerfile's. Needs root or a kernel that lets users make namespaces.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
    namespaces=(--mount --pid --net --ipc --uts --fork --kill-child)
    [ "$(id -u)" -eq 0 ] || namespaces+=(--map-root-user)
    exec unshare "${namespaces[@]}" "$0" --inside "$([ "$(id -u)" -eq 0 ] && echo root || echo user)" "$@"
fi
caller=$2 folder=$(realpath "$3") python=$(realpath --no-symlinks "$4") script=$(realpath "$5")
image=$(realpath "$(dirname "$0")")
tools=(bash sh env ls cat id rm mkdir realpath dirname uname sed tail cp ldd umount setpriv unshare)
read -r prefix version < <("$python" -c 'import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2])')

mount --make-rprivate /
# Only this namespace sees what is mounted there, and it leaves nothing behind.
root=/mnt
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr/bin etc proc dev tmp old opt/cvntrade check

# bind SOURCE TARGET: the same tree there, read-only.
bind() {
    mkdir -p "./$2"
    mount --bind "$1" "./$2"
    mount -o remount,bind,ro,nosuid "./$2"
}

# libraries: the files of this machine that Python, its own modules and the tools are linked with (ldd says no to a script).
libraries() {
    {
        ldd "$prefix/bin/python$version" "$prefix/lib/python$version"/lib-dynload/*.so "${tools[@]/#//usr/bin/}" || true
        ldconfig -p | grep -E '/lib(stdc\+\+|gcc_s|z|c|m|dl|rt|util|pthread|resolv|nss_files|nss_dns)\.so\.[0-9]+$' | sort -u
    } 2>/dev/null | tr ' \t' '\n\n' | grep -E '^/.*\.so[.0-9]*$' | sort -u
}

for part in /usr/lib/locale /usr/share/zoneinfo; do [ ! -d "$part" ] || bind "$part" "$part"; done
for part in lib lib64 bin; do
    mkdir -p "usr/$part"
    ln -s "usr/$part" "$part"
done
# What Python and the tools need of this machine's libraries, and C++'s runtime and zlib: what the base image has, no more.
for tool in "${tools[@]}"; do cp --dereference "$(command -v "$tool")" usr/bin/; done
libraries | while read -r library; do
    mkdir -p "./${library%/*}"
    cp --dereference "$library" "./$library"
done
mkdir -p "./$prefix/bin"
cp --dereference "$prefix/bin/python$version" "./$prefix/bin/"
ln -s "python$version" "./$prefix/bin/python3"
bind "$prefix/lib/python$version" "$prefix/lib/python$version"
# What that Python has installed, and the pip that it keeps for `venv`: the Dockerfile removes both.
for part in site-packages ensurepip; do
    [ ! -d "./$prefix/lib/python$version/$part" ] || mount -t tmpfs -o ro tmpfs "./$prefix/lib/python$version/$part"
done
printf 'root:x:0:0::/root:/bin/sh\ncvntrade:x:65532:65532::/tmp:/usr/sbin/nologin\n' >etc/passwd
printf 'root:x:0:\ncvntrade:x:65532:\n' >etc/group
printf '127.0.0.1 localhost\n' >etc/hosts
bind "$folder" opt/cvntrade
cp "$script" check/
mount -t proc proc proc
for device in null zero random urandom; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm
mount -t tmpfs -o mode=1777,size=64m tmpfs dev/shm
mount -t tmpfs -o mode=1777 tmpfs tmp
"$python" - <<'PYTHON'
"""Bring the loopback of this network namespace up: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING."""
import fcntl, socket, struct
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
PYTHON
mount -o remount,bind,ro "$root"

# The Dockerfile says what the environment is, one variable a line.
mapfile -t variables < <(sed -n 's/^ENV \([A-Z_]*=[^ ]*\)$/\1/p' "$image/../Dockerfile")
drop=(setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --)
[ "$caller" = root ] || drop=(unshare --user --map-user=65532 --map-group=65532 --)
pivot_root . old
cd /
hash -r
umount --lazy /old
exec "${drop[@]}" env -i "${variables[@]}" /opt/cvntrade/.venv/bin/python "/check/${script##*/}"
