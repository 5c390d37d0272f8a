//! QEMU's command line.

use super::accel::{Accel, Translation};
use super::image::Image;
use crate::backend::BackendError;
use crate::order::{DISK_SERIAL, Order};
use crate::place::Place;
use contract::paths::HOST_FOLDERS_TAG;
use std::ffi::OsString;
use std::path::Path;

/// COMMAND_LINE_SIZE of x86 (arch/x86/include/asm/setup.h), with its final NUL.
const COMMAND_LINE_MAX: usize = 2047;

/// What the kernel is told. Quiet, since serial output is slow; a panic starts again at once, which QEMU turns into its
/// end; one serial port is all there is to look for, and no keyboard or mouse is. What is left out is not used by the
/// engine or by containers, and its self-tests and preparations are a sixth of a translated boot: tests of ciphers, a
/// source of random numbers beside the processor's own, keys for encrypted disks. Of the security modules those are left that
/// work without a policy: where only AppArmor is switched off, SELinux and TOMOYO take its place at every system call.
const KERNEL_WORDS: &str = "console=ttyS0 console=hvc0 quiet panic=-1 8250.nr_uarts=1 i8042.noaux i8042.nokbd i8042.nopnp \
     random.trust_cpu=on lsm=lockdown,landlock,yama,bpf cryptomgr.notests \
     initcall_blacklist=crypto_kdf108_init,jent_mod_init,sed_opal_init,init_encrypted";

/// The whole command line, without the program.
pub fn build(
    order: &Order,
    place: &Place,
    image: &Image,
    accel: Accel,
) -> Result<Vec<OsString>, BackendError> {
    let mut args = Args(Vec::new());
    args.machine(order, accel);
    args.kernel(image, &command_line(order, accel)?);
    args.disk(&order.disk);
    args.network();
    args.balloon();
    args.consoles(place);
    args.vsock(place);
    args.folders(order, place);
    args.monitor(place);
    Ok(args.0)
}

/// Words after `--` become the argv of PID 1 (Documentation/admin-guide/kernel-parameters).
fn command_line(order: &Order, accel: Accel) -> Result<String, BackendError> {
    // A guest whose instructions are translated gains nothing from measures against speculating processors.
    let mitigations = if matches!(accel, Accel::Tcg(_)) { " mitigations=off" } else { "" };
    let line = format!("{KERNEL_WORDS}{mitigations} -- {}", order.machine_settings().words().join(" "));
    match line.len() > COMMAND_LINE_MAX {
        true => Err(BackendError::CommandLine { bytes: line.len(), max: COMMAND_LINE_MAX }),
        false => Ok(line),
    }
}

struct Args(Vec<OsString>);

impl Args {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    /// Only what the guest uses: every device less is a probe less in firmware and kernel.
    fn machine(&mut self, order: &Order, accel: Accel) {
        self.0.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
        self.add("-name", format!("pinnace-{}", order.name));
        self.add("-display", "none");
        self.add(
            "-machine",
            "q35,memory-backend=mem0,vmport=off,smbus=off,sata=off,usb=off,graphics=off,i8042=off",
        );
        self.add("-object", format!("memory-backend-memfd,id=mem0,size={}M,share=on", order.memory_mib));
        self.add("-m", format!("{}M", order.memory_mib));
        self.add("-smp", order.cpus.to_string());
        let (accel, cpu) = match accel {
            Accel::Kvm => ("kvm", "host"),
            Accel::Tcg(Translation::Parallel) => ("tcg,thread=multi", "max"),
            Accel::Tcg(Translation::InTurn) => ("tcg,thread=single", "max"),
        };
        self.add("-accel", accel);
        self.add("-cpu", cpu);
        self.add("-rtc", "base=utc,clock=host");
        // A guest that breaks out of the machine finds a process that may start nothing and become nobody.
        self.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    }

    fn kernel(&mut self, image: &Image, command_line: &str) {
        self.add("-kernel", &image.kernel);
        self.add("-initrd", &image.initramfs);
        self.add("-append", command_line);
    }

    /// Writes are kept by the host's cache until the guest flushes, which is a real fsync; freed blocks become holes.
    fn disk(&mut self, disk: &Path) {
        let mut drive = OsString::from("if=none,id=data,format=raw,cache=writeback,discard=unmap,file=");
        drive.push(escaped(disk));
        self.add("-drive", drive);
        self.add("-device", format!("virtio-blk-pci,drive=data,serial={DISK_SERIAL}"));
    }

    /// Without `romfile=` the firmware would load and start a network boot program.
    fn network(&mut self) {
        self.add("-netdev", "user,id=net");
        self.add("-device", "virtio-net-pci,netdev=net,romfile=");
    }

    /// For free page reporting alone: the guest tells which pages it freed, and QEMU punches them out of the memfd. Nobody inflates it.
    fn balloon(&mut self) {
        self.add("-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on");
    }

    /// The virtio console calls us back; the serial port is QEMU's stdout.
    fn consoles(&mut self, place: &Place) {
        let mut main = OsString::from("socket,id=main,path=");
        main.push(escaped(&place.console_socket()));
        self.add("-chardev", main);
        self.add("-device", "virtio-serial-pci");
        self.add("-device", "virtconsole,chardev=main");
        self.add("-chardev", "stdio,id=tty,signal=off");
        self.add("-serial", "chardev:tty");
    }

    fn vsock(&mut self, place: &Place) {
        let mut device = OsString::from("socket,id=vsock,path=");
        device.push(escaped(&place.vsock_socket()));
        self.add("-chardev", device);
        self.add("-device", "vhost-user-vsock-pci,chardev=vsock");
    }

    /// The host's folders, where there are any.
    fn folders(&mut self, order: &Order, place: &Place) {
        if order.shares.is_empty() {
            return;
        }
        let mut device = OsString::from("socket,id=folders,path=");
        device.push(escaped(&place.folders_socket()));
        self.add("-chardev", device);
        self.add(
            "-device",
            format!("vhost-user-fs-pci,chardev=folders,tag={HOST_FOLDERS_TAG},queue-size=1024"),
        );
    }

    fn monitor(&mut self, place: &Place) {
        let mut socket = OsString::from("socket,id=qmp,path=");
        socket.push(escaped(&place.qmp_socket()));
        self.add("-chardev", socket);
        self.add("-mon", "chardev=qmp,mode=control");
    }
}

/// A comma in a value is written twice (qemu(1), "QemuOpts").
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    let doubled = bytes.iter().flat_map(|byte| std::iter::repeat_n(*byte, 1 + usize::from(*byte == b',')));
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(escaped(Path::new("/a,b/c")), OsString::from("/a,,b/c"));
    }
}
