#!/bin/sh
# peer-vm.sh KERNEL-PACKAGE FOLDER DOCKER: makes the VM that we are measured against, FOLDER/kernel and FOLDER/initrd: the same
# kernel as ours, with dockerd and containerd from the folder DOCKER and Debian's runc in an initramfs, the way small Docker
# VMs are made. Needs root, mmdebstrap, cpio, zstd, kmod, xz-utils.
set -eu
package=$1
docker=$3
mkdir -p "$2"
cd "$2"

# The packages, unpacked with all they depend on, not configured.
[ -d debian ] || {
	mmdebstrap --quiet --variant=extract --include=docker.io,containerd,runc,iptables,e2fsprogs,busybox-static \
		bookworm debian.new
	mv debian.new debian
}
for program in usr/sbin/dockerd usr/sbin/docker-proxy usr/bin/containerd usr/bin/containerd-shim-runc-v2; do
	cp "$docker/$program" "debian/$program"
done
rm -rf unpacked root
dpkg -x "$package" unpacked
cp unpacked/boot/vmlinuz-* kernel

mkdir -p root/bin root/sbin root/usr/bin root/usr/sbin root/proc root/sys root/dev root/run root/tmp root/etc \
	root/var/lib/docker
ln -s /run root/var/run
cp debian/bin/busybox root/bin/
for name in $(debian/bin/busybox --list); do
	case $name in busybox | mke2fs) ;; *) ln -s busybox "root/bin/$name" ;; esac
done

# A program with every library the loader would load for it.
loader=debian/lib64/ld-linux-x86-64.so.2
libraries=debian/lib/x86_64-linux-gnu:debian/usr/lib/x86_64-linux-gnu
take() {
	install -D "debian$1" "root$1"
	"$loader" --library-path "$libraries" --list "debian$1" 2>/dev/null | grep -o 'debian/[^ ]*' | while read -r library; do
		install -D "$library" "root/${library#debian/}"
	done
}
for program in /usr/sbin/dockerd /usr/bin/containerd /usr/bin/containerd-shim-runc-v2 /usr/sbin/runc \
	/usr/sbin/docker-proxy /usr/sbin/xtables-nft-multi /usr/sbin/mke2fs /sbin/mke2fs; do
	[ -e "debian$program" ] && take "$program"
done
install -D debian/lib64/ld-linux-x86-64.so.2 root/lib64/ld-linux-x86-64.so.2
for library in debian/usr/lib/x86_64-linux-gnu/xtables/*.so; do take "${library#debian}"; done
for name in iptables ip6tables iptables-save; do ln -s xtables-nft-multi "root/usr/sbin/$name"; done

release=$(basename unpacked/lib/modules/*)
mkdir -p root/lib/modules
cp -r "unpacked/lib/modules/$release" root/lib/modules/
find root/lib/modules -name '*.xz' -exec xz -d {} +
depmod -b root "$release"
echo 'root:x:0:0:root:/root:/bin/sh' >root/etc/passwd
printf 'root:x:0:\ndocker:x:999:\n' >root/etc/group

cat >root/init <<'INIT'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
for module in virtio_blk virtio_net overlay bridge br_netfilter veth nf_tables nft_compat nft_chain_nat xt_conntrack \
	xt_MASQUERADE xt_addrtype nf_nat; do
	modprobe "$module" 2>/dev/null
done
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
echo nameserver 10.0.2.3 >/etc/resolv.conf
mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /var/lib/docker
DOCKER_RAMDISK=yes dockerd -H tcp://0.0.0.0:2375 -H unix:///run/docker.sock --storage-driver overlay2 --tls=false &
wait
INIT
chmod +x root/init
(cd root && find . | cpio -o -H newc --quiet) | zstd -q -9 -T0 -f -o initrd
rm -rf unpacked root
