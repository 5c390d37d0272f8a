//! The engine returns: what the store recorded and what PID 1 holds become containers again.

// It runs before the API is served.
#![allow(clippy::disallowed_methods)]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use contract::keeper::{FromKeeper, Key};
use runtime::cgroup;
use runtime::keeper::{Delivery, Keeper};
use runtime::stdio::Ends;

use super::container::Container;
use super::driver::{LOST_EXIT_CODE, Order, acknowledge};
use super::error::ContainerError;
use super::note::Note;
use super::power_off::StopBy;
use super::record::{CONTAINERS, ContainerSpec, ContainerState, NAMES, Record, Recorded, STATES};
use super::registry::{Containers, Rooms, Settings, Shared};
use super::remove::delete_folder;
use super::state::{Ended, State};
use store::Damaged;
use volumes::Volumes;

/// Starts at boot that go on at the same time.
const AT_ONCE: usize = 8;

impl Containers {
    /// The output of processes is read on the runtime `output`.
    ///
    /// Reads the records, takes back what PID 1 holds, and puts right what neither explains. From then on a task
    /// listens to PID 1.
    ///
    /// # Errors
    /// The store or the disk failed.
    pub async fn open(
        settings: Settings,
        rooms: Rooms,
        keeper: Arc<Keeper>,
        output: tokio::runtime::Handle,
    ) -> Result<Containers, ContainerError> {
        let Rooms { store, images, networks, ports, volumes, events } = rooms;
        let shared = Shared {
            settings,
            store,
            images,
            networks,
            ports,
            volumes,
            events,
            keeper,
            output,
            index: Default::default(),
            execs: Default::default(),
            pruning: AtomicBool::new(false),
            going_down: AtomicBool::new(false),
            stop_by: StopBy::new(None),
        };
        let containers = Containers { shared: Arc::new(shared) };
        containers.prepare_folders()?;
        let booted = !containers.mark().exists();
        containers.adopt_records(booted)?;
        let held = containers.take_back().await?;
        containers.resume_volumes(&held);
        containers.collect_strays(&held);
        containers.settle_lost(&held).await;
        let listener = containers.clone();
        tokio::spawn(async move { listener.listen().await });
        containers.go_on(booted);
        Ok(containers)
    }

    /// Stands as long as the machine does, from when all was started that starts with it.
    fn mark(&self) -> PathBuf {
        self.shared.settings.run.join("started")
    }

    /// The restart policies take up their work. An engine that only returns changes nothing: what was stopped by
    /// hand stays so until the machine boots.
    fn go_on(&self, booted: bool) {
        if !booted {
            let waiting =
                |container: &Arc<Container>| matches!(container.snapshot().state, State::Restarting(_));
            for container in self.list().into_iter().filter(waiting) {
                let _ = container.orders.send(Order::Rearm);
            }
            return;
        }
        let containers = self.clone();
        tokio::spawn(async move {
            containers.start_at_boot().await;
            if let Err(error) = std::fs::write(containers.mark(), "") {
                tracing::warn!(%error, "cannot leave the mark of a finished start");
            }
        });
    }

    /// Oldest first, a few at a time: each start blocks a thread.
    async fn start_at_boot(&self) {
        let wanted = |container: &Arc<Container>| {
            let record = container.record();
            let State::Exited(ended) = container.snapshot().state else { return false };
            record.host.restart.at_boot(&record.restarts, ended.exit_code)
        };
        let mut waiting: Vec<_> = self.list().into_iter().filter(wanted).collect();
        let mut starting = tokio::task::JoinSet::new();
        while let Some(container) = waiting.pop() {
            if starting.len() >= AT_ONCE {
                starting.join_next().await;
            }
            starting.spawn(async move {
                match container.order(Order::Start).await {
                    Ok(()) | Err(ContainerError::AlreadySo | ContainerError::NotFound(_)) => {}
                    Err(error) => {
                        tracing::error!(container = container.id(), %error, "cannot start a container at boot");
                    }
                }
            });
        }
        starting.join_all().await;
    }

    fn prepare_folders(&self) -> Result<(), ContainerError> {
        let settings = &self.shared.settings;
        let make = || {
            std::fs::create_dir_all(settings.data.join("containers"))?;
            std::fs::create_dir_all(self.shared.spools())?;
            std::fs::create_dir_all(settings.run.join("runs"))?;
            std::fs::create_dir_all(self.shared.cgroups())?;
            super::cgroups::keep_room(&self.shared.cgroups());
            runtime::rootfs::base_layer(&settings.data.join("base"), settings.ids)
        };
        make().map_err(ContainerError::machine("prepare the engine's folders"))
    }

    fn adopt_records(&self, booted: bool) -> Result<(), ContainerError> {
        let (specs, states) =
            self.shared.store.read(|reader| Ok((reader.rows(CONTAINERS)?, reader.rows(STATES)?)))?;
        let mut readable: HashMap<_, _> = states.readable.into_iter().collect();
        let torn: HashMap<_, _> = states.damaged.into_iter().map(|row| (row.key.clone(), row)).collect();
        for (id, spec) in specs.readable {
            let state = readable.remove(&id).unwrap_or_else(|| unknown_state(&id, torn.get(&id)));
            let mut record = Record::new(id, spec, state);
            if let Recorded::Restarting(ended) = &record.state
                && booted
            {
                record.state = Recorded::Exited(ended.clone());
            }
            let state = match &record.state {
                Recorded::Created(ended) => State::Created(ended.clone()),
                Recorded::Exited(ended) => State::Exited(ended.clone()),
                Recorded::Restarting(ended) => State::Restarting(ended.clone()),
                // Until PID 1 or `settle_lost` says more.
                Recorded::Started(_) => State::Exited(Ended::default()),
            };
            self.adopt(record, state);
        }
        self.adopt_damaged(specs.damaged)
    }

    /// What such a container was nobody knows. It is there to be seen and removed, with the name it had.
    fn adopt_damaged(&self, rows: Vec<Damaged>) -> Result<(), ContainerError> {
        if rows.is_empty() {
            return Ok(());
        }
        let names = self.shared.store.read(|reader| reader.rows(NAMES))?.readable;
        for row in rows {
            let named = names.iter().find(|(_, id)| *id == row.key).map(|(name, _)| name.clone());
            let name = named.unwrap_or_else(|| row.key.chars().take(12).collect());
            let ended = Ended { exit_code: LOST_EXIT_CODE, error: row.to_string(), ..Ended::default() };
            tracing::error!(container = row.key, "a container is damaged: {row}");
            let state = ContainerState::of(Recorded::Exited(ended.clone()));
            self.adopt(Record::new(row.key, ContainerSpec::unknown(name), state), State::Damaged(ended));
        }
        Ok(())
    }

    /// Reads PID 1's replay to its end.
    async fn take_back(&self) -> Result<HashSet<String>, ContainerError> {
        let mut held = HashSet::new();
        loop {
            let Delivery { message, fds } = self.next_delivery().await?;
            match message {
                FromKeeper::ReplayEnd => return Ok(held),
                FromKeeper::Held { key, pid, exit, note } => {
                    let id = format!("{key:?}");
                    let Some(note) = Note::decode(&note) else {
                        acknowledge(&self.shared, &id);
                        continue;
                    };
                    let ends = note.kind().and_then(|kind| Ends::from_riders(kind, fds));
                    held.insert(note.container.clone());
                    self.resume(id, pid, &note, ends).await;
                    if let Some(exit) = exit {
                        self.exited(key, pid, exit);
                    }
                }
                FromKeeper::Kept { name } if Volumes::keeps(&name) => {
                    self.shared.volumes.take_back(&name, fds);
                }
                FromKeeper::Kept { name } => self.take_back_named(name, fds, &held),
                other => self.handle(other),
            }
        }
    }

    /// Who runs has its volumes mounted; what nobody has any more is let go.
    fn resume_volumes(&self, held: &HashSet<String>) {
        for container in self.list().iter().filter(|container| held.contains(container.id())) {
            for point in container.record().volume_points() {
                self.shared.volumes.resume(&point.name, container.id());
            }
        }
        self.shared.volumes.resumed();
    }

    /// Sockets at which a container that runs asks for names; nothing else is kept.
    fn take_back_named(
        &self,
        name: contract::keeper::Name,
        fds: Vec<std::os::fd::OwnedFd>,
        held: &HashSet<String>,
    ) {
        let of = |id: &&String| super::places::sockets_name(id) == name;
        let running = held.iter().find(of).and_then(|id| self.find(id).ok());
        let running = running.filter(|container| container.snapshot().state.running().is_some());
        let mut fds = fds.into_iter();
        let (Some(container), Some(udp), Some(tcp)) = (running, fds.next(), fds.next()) else {
            return self.release(name);
        };
        let sockets = networks::NameSockets { udp, tcp };
        if let Err(error) = super::places::resume_names(&self.shared, &container.record(), sockets) {
            tracing::error!(container = container.id(), %error, "names are not answered any more");
        }
    }

    /// It belonged to an engine of another release, which this one replaced, or to a run that is over.
    fn release(&self, name: contract::keeper::Name) {
        tracing::info!(%name, "PID 1 kept what this engine has no use for");
        if let Err(error) = self.shared.keeper.release(name) {
            tracing::error!(%error, "cannot tell PID 1 what is not needed");
        }
    }

    async fn next_delivery(&self) -> Result<Delivery, ContainerError> {
        let gone = || std::io::Error::other("PID 1 closed the keeper socket");
        match self.shared.keeper.receive().await {
            Ok(Some(delivery)) => Ok(delivery),
            Ok(None) => Err(ContainerError::machine("listen to PID 1")(gone())),
            Err(error) => Err(ContainerError::machine("listen to PID 1")(std::io::Error::other(error))),
        }
    }

    async fn resume(&self, id: String, pid: u32, note: &Note, ends: Option<Ends>) {
        if note.exec {
            return self.resume_exec(id, note, pid, ends).await;
        }
        let Ok(container) = self.find(&id) else { return };
        if matches!(container.snapshot().state, State::Damaged(_)) {
            // It runs on, and its removal ends it.
            return;
        }
        if let Recorded::Exited(ended) | Recorded::Restarting(ended) = &container.record().state
            && ended.started_at == note.started_at
        {
            // This run's end is on disk; only the acknowledgement was lost.
            return;
        }
        let noted = note.endpoint.iter().map(|endpoint| (endpoint.network.clone(), endpoint.clone()));
        let endpoints = super::runs::find(&self.shared, &id).unwrap_or_else(|| noted.collect());
        let record = container.record();
        self.shared.networks.resume(record.guest(), &record.asks(), &endpoints);
        let ports = super::ports::resume(&self.shared, &id, &endpoints);
        let started_at = note.started_at;
        let resumed =
            container.order(|answer| Order::Resume { pid, started_at, endpoints, ports, ends, answer }).await;
        if let Err(error) = resumed {
            tracing::error!(container = id, %error, "cannot take a running container back");
        }
    }

    async fn listen(&self) {
        let mut powering_off = false;
        loop {
            match self.next_delivery().await {
                Ok(delivery) => {
                    powering_off |= matches!(delivery.message, FromKeeper::PowerOff { .. });
                    self.handle(delivery.message);
                }
                Err(_) if powering_off => std::process::exit(0),
                Err(error) => {
                    // Without PID 1 nothing can be started or ended; it starts a new engine.
                    tracing::error!(%error, "the engine stops");
                    std::process::exit(1);
                }
            }
        }
    }

    fn handle(&self, message: FromKeeper) {
        match message {
            FromKeeper::Exited { key, pid, exit } => self.exited(key, pid, exit),
            FromKeeper::PowerOff { millis } => {
                let (containers, within) = (self.clone(), Duration::from_millis(millis.into()));
                tokio::spawn(async move { containers.power_off(within).await });
            }
            FromKeeper::Held { .. } | FromKeeper::Kept { .. } | FromKeeper::ReplayEnd => {
                tracing::error!(?message, "PID 1 said something out of turn");
            }
        }
    }

    fn exited(&self, key: Key, pid: u32, exit: contract::keeper::Exit) {
        let id = format!("{key:?}");
        let container = self.shared.index().by_id.get(&id).cloned();
        if let Some(container) = container {
            let _ = container.orders.send(Order::Exited { pid, exit });
        } else if let Some(exec) = self.shared.exec(&id) {
            self.exec_ended(exec, exit, pid);
        } else {
            acknowledge(&self.shared, &id);
        }
    }

    /// Processes that were cloned but never registered before the engine before this one was killed, and files
    /// without a record.
    fn collect_strays(&self, held: &HashSet<String>) {
        let names = |folder: &std::path::Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let usual = self.shared.cgroups();
        let records = self.list().into_iter().map(|container| container.record());
        let elsewhere = records.filter(|record| !record.host.cgroup_parent.is_empty());
        let elsewhere = elsewhere.map(|record| self.shared.cgroup(&record));
        for path in names(&usual).into_iter().map(|id| usual.join(id)).chain(elsewhere) {
            let id = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_left = id.len() == 64 && path.is_dir() && !held.contains(id);
            if is_left && let Err(error) = cgroup::kill_and_remove(&path) {
                tracing::error!(container = id, %error, "a process of an earlier life does not end");
            }
        }
        let known = |id: &str| self.shared.index().by_id.contains_key(id);
        let folders = names(&self.shared.settings.data.join("containers"));
        let gone: Vec<_> = folders.iter().filter(|id| !known(id)).map(|id| self.shared.folder(id)).collect();
        // However much a removal left, the first answer does not wait for it: no id is ever given again.
        std::thread::spawn(move || gone.iter().for_each(|folder| delete_folder(folder)));
        for name in names(&self.shared.spools()) {
            let id = name.split('.').next().unwrap_or_default();
            if !held.contains(id) {
                let _ = std::fs::remove_file(self.shared.spools().join(&name));
            }
        }
    }

    async fn settle_lost(&self, held: &HashSet<String>) {
        for container in self.list() {
            let record = container.record();
            if held.contains(container.id()) {
                continue;
            }
            match record.state {
                Recorded::Started(_) => drop(container.order(Order::Lost).await),
                Recorded::Exited(_) if record.host.auto_remove => {
                    drop(container.order(|answer| Order::Remove(true, answer)).await)
                }
                _ => {}
            }
        }
    }
}

/// The state of a container whose row of it is lost. Where it runs PID 1 says so.
fn unknown_state(id: &str, row: Option<&Damaged>) -> ContainerState {
    let error = row.map_or_else(|| "its state was never written".to_owned(), Damaged::to_string);
    tracing::error!(container = id, "the state of a container is lost: {error}");
    ContainerState::of(Recorded::Exited(Ended { exit_code: LOST_EXIT_CODE, error, ..Ended::default() }))
}
