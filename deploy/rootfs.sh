#!/bin/sh
# Makes the root file system of the image: the binary, the libraries it needs, CA
# certificates, a user, and nothing else; no shell, no package manager.
#
#   deploy/rootfs.sh BINARY DIRECTORY
#
# It is a script of its own so that it can be tested without a container engine: what is
# in the directory is what the container sees (tests/deploy/check.py goes there by chroot).
set -eu
binary=$1
root=$2
user=65532

# cp follows the links: in the image each library is one file under the name asked for.
install_file() { mkdir -p "$root$(dirname "$2")" && cp -L "$1" "$root$2" && chmod "$3" "$root$2"; }

mkdir -p "$root" && chmod 755 "$root"
install_file "$binary" "/$(basename "$binary")" 755

# `ldd` names them as "name => /path (address)", the loader as "/path (address)".
ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' |
    while read -r library; do install_file "$library" "$library" 755; done

bundle=/etc/ssl/certs/ca-certificates.crt
if [ ! -e $bundle ]; then
    echo "$bundle: not there; install ca-certificates, or no https upstream can be reached" >&2
    exit 1
fi
install_file $bundle $bundle 644

# For `report --tz`; without it only UTC is known.
if [ -d /usr/share/zoneinfo ]; then
    mkdir -p "$root/usr/share" && cp -RL /usr/share/zoneinfo "$root/usr/share/"
    rm -rf "$root/usr/share/zoneinfo/right" "$root/usr/share/zoneinfo/posix"
fi

mkdir -p "$root/etc/tollgate" "$root/tmp" "$root/data"
printf 'root:x:0:0::/:/none\ntollgate:x:%s:%s::/data:/none\n' $user $user >"$root/etc/passwd"
printf 'root:x:0:\ntollgate:x:%s:\n' $user >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
# The ledger's place; elsewhere nothing is written.
chmod 700 "$root/data"
if [ "$(id -u)" = 0 ]; then chown $user:$user "$root/data"; fi
