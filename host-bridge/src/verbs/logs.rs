//! `pinnace logs`: what was said, in this boot and the ones since `up`.

use super::{VerbError, place};
use crate::place::Place;
use crate::{Which, host, say};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// Options of `pinnace logs`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Go on with what is said from now on, until the appliance ends
    #[arg(short, long)]
    follow: bool,
    /// What the bridge said, on this host
    #[arg(long, conflicts_with = "serial")]
    bridge: bool,
    /// What the first serial port said: the firmware and the kernel's last words
    #[arg(long)]
    serial: bool,
}

/// Prints it.
pub fn run(options: &Options) -> Result<(), VerbError> {
    let place = place(&options.which)?;
    let path = choose(options, &place);
    let failed = |source| VerbError::File { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(VerbError::NotRunning),
        opened => opened.map_err(failed)?,
    };
    loop {
        if !print(&mut file).map_err(failed)? || !options.follow {
            return Ok(());
        }
        if let Some(next) = moved_aside(&file, &path) {
            file = next;
        } else if !place.has_bridge()? {
            print(&mut file).map_err(failed)?;
            return Ok(());
        } else {
            std::thread::sleep(TICK);
        }
    }
}

/// A guest that died before its console spoke may have spoken on the serial port.
fn choose(options: &Options, place: &Place) -> PathBuf {
    let mute = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0);
    match (options.bridge, options.serial) {
        (true, _) => place.bridge_log(),
        (_, true) => place.serial_log(),
        _ if mute(&place.console_log()) && !options.follow => place.serial_log(),
        _ => place.console_log(),
    }
}

/// Prints what is new; false when nobody reads any more.
fn print(file: &mut File) -> io::Result<bool> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(true),
            read if !say::bytes(&chunk[..read]) => return Ok(false),
            _ => {}
        }
    }
}

/// The log that took this one's place when it had grown too long.
fn moved_aside(file: &File, path: &Path) -> Option<File> {
    match host::leads_to(path, file) {
        Ok(false) => File::open(path).ok(),
        Ok(true) | Err(_) => None,
    }
}
