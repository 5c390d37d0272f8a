//! A virtual machine under QEMU.

mod accel;
mod args;
mod disk;
mod image;
mod machine;
mod pause;
mod qmp;
pub mod unpacked;
mod vsock;

use crate::backend::{Backend, BackendError, Machine};
use crate::console::Consoles;
use crate::order::Order;
use crate::place::Place;
use accel::Accel;
use futures_util::future::{BoxFuture, FutureExt};
use image::Image;
use nix::fcntl::Flock;
use std::fs::File;
use std::path::PathBuf;

const PROGRAM: &str = "qemu-system-x86_64";

/// See the module.
pub struct Qemu {
    order: Order,
    place: Place,
    program: PathBuf,
    image: Image,
    accel: Accel,
    /// Held as long as boots may use the disk.
    _disk: Flock<File>,
}

impl Qemu {
    /// Looks at everything a boot needs: QEMU, the image and the disk, which is made when it is missing.
    pub fn prepare(order: &Order, place: &Place) -> Result<Qemu, BackendError> {
        let mut image = Image::open(&order.image)?;
        let program = find_program().ok_or(BackendError::NoQemu)?;
        let disk = disk::prepare(order)?;
        let accel = Accel::detect(&program);
        if matches!(accel, Accel::Tcg(_)) {
            image.kernel = unpacked::kernel(&image.kernel, place);
            image.initramfs = unpacked::initramfs(&image.initramfs, place);
        }
        let qemu = Qemu { order: order.clone(), place: place.clone(), program, image, accel, _disk: disk };
        Ok(qemu)
    }
}

impl Backend for Qemu {
    fn name(&self) -> String {
        format!("qemu ({})", self.accel.name())
    }

    fn start<'a>(
        &'a mut self,
        consoles: &'a Consoles,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, BackendError>> {
        async move {
            let args = args::build(&self.order, &self.place, &self.image, self.accel)?;
            let launch = machine::Launch {
                program: &self.program,
                args,
                place: &self.place,
                consoles,
                disk: &self.order.disk,
                shares: &self.order.shares,
            };
            Ok(Box::new(launch.start().await?) as Box<dyn Machine>)
        }
        .boxed()
    }
}

fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file())
}
