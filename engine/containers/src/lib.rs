//! Containers: their life, one driver each.
//!
//! ```text
//!             start                    exit
//!   Created ────────► Running ◄─────► Paused
//!      │  ▲             │  ▲
//!      │  └ failed start│  │ start
//!      │                ▼  │
//!      │    Restarting ► Exited        (see [`restart`])
//!      │   remove       │ remove
//!      └──────► Removing ◄┘──► Removed
//! ```
//!
//! One task, the *driver*, owns a container: requests and the keeper's news enter its queue as [`Order`]s, and it
//! alone changes the state, which leaves as a numbered [`Snapshot`] on a watch channel. Who waits, lists or
//! inspects reads the snapshot and never asks the driver. Which order is legal is [`legality`]'s to say.
//!
//! What must outlive the engine is elsewhere: the record in the store, the process with its pipes in PID 1, the
//! output on its way in the spool.
//!
//! [`Order`]: driver::Order

mod cgroups;
mod config;
mod connect;
mod container;
mod create;
mod devices;
mod driver;
mod error;
mod exec;
mod files;
mod health;
mod host_changes;
mod host_folders;
mod join;
mod launch;
pub mod legality;
mod logs;
mod mounts;
mod names;
mod network_files;
mod note;
mod places;
mod ports;
mod power_off;
mod prune;
mod record;
mod registry;
mod remove;
mod rename;
mod resources;
mod restart;
mod restore;
mod runs;
mod size;
mod state;
mod stats;
mod steps;
mod stop;
mod sysctls;
mod top;
mod update;
mod wait;

pub use config::{Config, HostConfig};
pub use container::Container;
pub use create::{Create, Created};
pub use devices::{DeviceMapping, DeviceRequest};
pub use error::ContainerError;
pub use exec::{ClaimedExec, Exec, ExecConfig, ExecState};
pub use files::{Archived, Change, ChangeKind, Exported, Extraction, PathStat, on_files};
pub use health::{Health, HealthStatus, ProbeResult};
pub use host_changes::tell as tell_changes_of_host_folders;
pub use host_folders::bring_in as bring_in_host_folders;
pub use launch::warm_up;
pub use logs::LogRequest;
pub use mounts::{
    BindOptions, DriverConfig, ImageOptions, Mount, MountKind, MountPoint, TmpfsOptions, VolumeOptions,
};
pub use prune::PruneContainers;
pub use record::{AskedAddresses, EndpointSettings, Record, Recorded};
pub use registry::{Containers, Rooms, Settings};
pub use resources::{DeviceList, DeviceRate, Resources, Support};
pub use restart::{RestartPolicy, Restarts};
pub use size::Size;
pub use state::{Ended, Running, Snapshot, State};
pub use stats::{Cpu, Io, Memory, Sample};
pub use stop::signal_number;
pub use top::Top;
pub use update::Update;
pub use wait::WaitCondition;
