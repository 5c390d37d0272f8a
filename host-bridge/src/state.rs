//! What is known of an appliance: published by its bridge, read by `status`, kept after the end.

use crate::host;
use crate::order::Order;
use crate::place::Place;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Where an appliance stands.
///
/// ```text
///   preparing
///      ▼
///   booting ──first answer──► up ──down, power-off──► stopping ──► stopped
///      │ ▲                    │ ▲
///      │ │    no room on host ▼ │ room
///      │ │                  paused
///      │ │                    │
///      │ └── guest's reboot ──┤
///      └──── gave up ─────────┴── died ──► failed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// What a boot needs is looked at and unpacked.
    Preparing,
    /// The guest was started and has not answered yet.
    Booting,
    /// The API answers.
    Up,
    /// The machine stands still, see the reason; it goes on by itself.
    Paused,
    /// The guest was told to power off.
    Stopping,
    /// It ended as it should.
    Stopped,
    /// It ended by itself, see the reason.
    Failed,
}

/// What the guest says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its release.
    pub version: String,
    /// The engine's process in it; 0 while it is not running.
    pub engine_pid: u32,
    /// How often the engine was started in this boot.
    pub engine_starts: u32,
    /// From PID 1's first instruction to the end of its boot, in milliseconds.
    pub boot_millis: u32,
    /// Which engine it is: `image`, or `upgrade` for one that was sent since.
    pub engine: String,
    /// Its data disk is damaged and can only be read until it boots again.
    #[serde(default)]
    pub read_only: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it stands.
    pub state: Phase,
    /// Why it failed or stands still.
    pub reason: Option<String>,
    /// Name of the appliance and of its docker context.
    pub name: String,
    /// Release of the bridge.
    pub version: String,
    /// The bridge's process.
    pub pid: u32,
    /// `qemu (kvm)`, `qemu (tcg)` or `namespace`.
    pub backend: String,
    /// QEMU's process, or PID 1 as this host sees it.
    pub machine_pid: Option<u32>,
    /// Docker's socket.
    pub socket: PathBuf,
    /// By which address the guest reaches this host.
    pub host_address: Option<Ipv4Addr>,
    /// Boots since `up`.
    pub boots: u32,
    /// When the current boot began, seconds since 1970 UTC.
    pub started_at: u64,
    /// From the machine's start to PID 1's first instruction.
    pub first_instruction_millis: Option<u64>,
    /// From the machine's start to the API's first answer.
    pub first_answer_millis: Option<u64>,
    /// The guest's own word, while it can be asked.
    pub guest: Option<Guest>,
    /// What `up` was asked for.
    #[serde(default)]
    pub order: Option<Order>,
}

impl State {
    /// Keeps it for the time when no bridge can be asked. Written whole or not at all.
    pub fn save(&self, place: &Place) -> io::Result<()> {
        let path = place.state_file();
        let fresh = path.with_extension("new");
        host::write_private(&fresh, &serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, path)
    }

    /// What was kept last.
    pub fn load(place: &Place) -> Option<State> {
        serde_json::from_slice(&std::fs::read(place.state_file()).ok()?).ok()
    }
}
