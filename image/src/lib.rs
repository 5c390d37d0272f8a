//! What goes into the bootable artefacts and how they are laid out.
//!
//! [`Recipe::make`] turns two programs and Debian's kernel package into the three files one appliance boots from:
//!
//! ```text
//!   linux-image-6.12-cloud-amd64 (apt) ─► kernel ─┬─► vmlinuz
//!                                                 └─► modules, load order ─┐
//!   init, engined, CA certificates ────────────────────────────────────────┼─► tree ─► initramfs.zst
//!   e2fsck-static (apt) ───────────────────────────────────────────────────┤
//!   mke2fs ─► blank data disk ─────────────────────────────────────────────┘
//!                                     manifest.json: sizes, digests, versions
//! ```
//!
//! The same inputs make the same bytes. It deliberately links none of the product: paths inside the guest are
//! parameters ([`Layout`]), and the programs are files.

mod debian;
mod initramfs;
mod kernel;
mod manifest;
mod modules;
mod recipe;
mod template;
mod tree;

pub use debian::DebianError;
pub use initramfs::InitramfsError;
pub use kernel::KernelError;
pub use manifest::{Artefact, Manifest};
pub use modules::ModuleError;
pub use recipe::{Layout, Made, Recipe, RecipeError};
pub use template::TemplateError;
