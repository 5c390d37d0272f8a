//! A machine that stands still, and what lets it go on.
//!
//! QEMU stops a machine whose write finds no room on the host (`werror=enospc`, its default): the guest sees no error, and
//! nothing is lost, as long as somebody tells it to go on. To hand the error to the guest instead would turn its file system
//! read-only at once.

use super::disk;
use super::qmp::Qmp;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks whether there is room again.
const ROOM_TICK: Duration = Duration::from_secs(2);
/// QEMU's word for a machine that was stopped by a failed write.
const IO_ERROR: &str = "io-error";

/// Tells why the machine stands still, and lets it go on when the host has room again. Ends with the monitor.
pub async fn watch(qmp: Qmp, disk: &Path, tell: watch::Sender<Option<String>>) {
    let mut heard = qmp.heard();
    while heard.wait_for(|heard| heard.stopped).await.is_ok() {
        let state = qmp.run_state().await.unwrap_or_default();
        let reason = reason(&state, disk);
        tracing::warn!("the machine stands still: {reason}");
        tell.send_replace(Some(reason));
        tokio::select! {
            () = wait_for_room(&qmp, disk), if state == IO_ERROR => {}
            _ = heard.wait_for(|heard| !heard.stopped) => {}
        }
        if !heard.borrow().stopped {
            tracing::info!("the machine goes on");
            tell.send_replace(None);
        }
    }
}

/// Tries until QEMU has taken the word; it stops the machine again when the room was too little.
async fn wait_for_room(qmp: &Qmp, disk: &Path) {
    loop {
        tokio::time::sleep(ROOM_TICK).await;
        if !disk::has_room(disk).unwrap_or(false) {
            continue;
        }
        match qmp.go_on().await {
            Ok(()) => return,
            Err(error) => tracing::warn!("QEMU does not let the machine go on: {error}"),
        }
    }
}

fn reason(state: &str, disk: &Path) -> String {
    match state {
        IO_ERROR => format!(
            "the host has no room for {}: free some, and the machine goes on by itself",
            disk.display()
        ),
        // RUN_STATE_INTERNAL_ERROR: the processor's own virtualization gave up.
        other => format!("QEMU stopped it ({other}): see pinnace logs"),
    }
}
