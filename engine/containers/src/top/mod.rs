//! `docker top`: the processes of a container in the columns of ps(1), without a ps anywhere.
//!
//! dockerd runs the host's `ps` with the client's words and keeps the container's lines. Here /proc is read: the
//! words that choose columns are understood, those that choose processes change nothing, all others are refused.

mod arguments;
mod columns;

use std::cmp::Ordering;
use std::time::Duration;

use runtime::cgroup::Cgroup;
use runtime::proc::{Machine, Process};

use super::container::Container;
use super::error::ContainerError;
use super::registry::Containers;
use arguments::{Order, Table, table};
use columns::Now;
use model::timestamp::Timestamp;

/// Most bytes of arguments in one table: they are the processes' to make as long as they like.
const ARGUMENTS_MAX: usize = 8 << 20;

/// A table of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Top {
    /// Heads of the columns.
    pub titles: Vec<String>,
    /// A row for each process.
    pub rows: Vec<Vec<String>>,
}

impl Containers {
    /// The processes of a running container, as `ps WORDS` tells them; no words are `-ef`. Blocks shortly.
    ///
    /// # Errors
    /// It does not run, or the words are not understood.
    pub fn top(&self, container: &Container, words: &str) -> Result<Top, ContainerError> {
        let state = container.snapshot().state;
        if state.status() == "restarting" {
            let text = "is restarting, wait until the container is running";
            return Err(ContainerError::Conflict(format!("Container {} {text}", container.id())));
        }
        if state.running().is_none() {
            return Err(ContainerError::Conflict(format!("container {} is not running", container.id())));
        }
        let Table { columns, order } =
            table(if words.trim().is_empty() { "-ef" } else { words }).map_err(ContainerError::Ps)?;
        let failed = |error| ContainerError::machine("list the container's processes")(error);
        let machine = Machine::read().map_err(failed)?;
        let cgroup = Cgroup::open(&self.shared.cgroup(&container.record()))
            .and_then(|cgroup| cgroup.all_pids())
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let now = Now { machine, seconds: Timestamp::now().seconds().cast_unsigned() };
        let mut top = Top { titles: columns.iter().map(|c| c.title.clone()).collect(), rows: vec![] };
        let mut looks = LOOKS;
        // What has ended meanwhile is not listed.
        let mut processes: Vec<Process> =
            cgroup.into_iter().filter_map(|pid| read(pid, &mut looks).ok()).collect();
        processes.sort_by(|one, other| compare(&order, one, other, &now));
        let mut bytes = 0;
        for process in &mut processes {
            bytes += process.arguments.iter().map(String::len).sum::<usize>();
            if bytes > ARGUMENTS_MAX {
                // Its name will do.
                process.arguments.clear();
            }
            top.rows.push(columns.iter().map(|column| (column.tell)(process, &now)).collect());
        }
        self.told(container, "top");
        Ok(top)
    }
}

/// How often processes without arguments are looked at again, all together, and with which pause.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// A process; one that has just begun a new program shows no arguments until the kernel has laid them out, and `start`
/// may be answered before.
#[allow(clippy::disallowed_methods)] // On a thread that may block.
fn read(pid: u32, looks: &mut u32) -> std::io::Result<Process> {
    let mut process = Process::read(pid)?;
    while process.arguments.is_empty() && process.state != 'Z' && *looks > 0 {
        *looks -= 1;
        std::thread::sleep(PAUSE);
        process = Process::read(pid)?;
    }
    Ok(process)
}

/// Which of two rows comes first; numbers are compared as numbers, and the older process of equals is the first.
fn compare(order: &[Order], one: &Process, other: &Process, now: &Now) -> Ordering {
    let by = |Order { by, descending }: &Order| {
        let (one, other) = ((by.tell)(one, now), (by.tell)(other, now));
        let numbers = one.parse::<f64>().ok().zip(other.parse::<f64>().ok());
        let found = numbers.map_or_else(|| one.cmp(&other), |(one, other)| one.total_cmp(&other));
        if *descending { found.reverse() } else { found }
    };
    order.iter().map(by).find(|found| found.is_ne()).unwrap_or_else(|| one.pid.cmp(&other.pid))
}
