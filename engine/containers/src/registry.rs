//! All containers: found by id, name or the beginning of an id.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use runtime::ids::IdMap;
use runtime::keeper::Keeper;

use super::config::HostConfig;
use super::container::Container;
use super::driver;
use super::error::ContainerError;
use super::exec::Exec;
use super::record::Record;
use super::state::State;
use images::Images;
use model::events::Events;
use networks::Networks;
use networks::ports::Ports;
use store::Store;
use volumes::Volumes;

/// Where things are and what the machine can do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// All that must survive a power cut.
    pub data: PathBuf,
    /// What may vanish with the power but not with the engine.
    pub run: PathBuf,
    /// Root of the tree of cgroups.
    pub cgroups: PathBuf,
    /// How the ids of containers stand to the machine's.
    pub ids: IdMap,
    /// The host's folders that are in the machine at the same path; nothing where there is no host to share with.
    pub host_folders: Option<Vec<PathBuf>>,
    /// The path of the user's ssh agent on the host, where it has one.
    pub ssh_agent: Option<PathBuf>,
}

impl Settings {
    /// Where the source of a bind is in the machine: the ssh agent's path of the host is that of its socket here.
    pub fn source_of_bind<'a>(&self, source: &'a Path) -> &'a Path {
        match self.ssh_agent.as_deref() == Some(source) {
            true => Path::new(contract::paths::SSH_AGENT_SOCKET),
            false => source,
        }
    }
}

/// What containers are made of and stand in.
pub struct Rooms {
    /// Where they are recorded.
    pub store: Store,
    /// What they are made of.
    pub images: Arc<Images>,
    /// Their places.
    pub networks: Arc<Networks>,
    /// Their ways to the outside.
    pub ports: Arc<Ports>,
    /// What they keep.
    pub volumes: Volumes,
    /// Who hears of them.
    pub events: Arc<Events>,
}

/// All containers; clones are the same.
#[derive(Clone)]
pub struct Containers {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub settings: Settings,
    pub store: Store,
    pub images: Arc<Images>,
    pub networks: Arc<Networks>,
    pub ports: Arc<Ports>,
    pub volumes: Volumes,
    pub events: Arc<Events>,
    pub keeper: Arc<Keeper>,
    /// Where the output of processes is read.
    pub output: tokio::runtime::Handle,
    pub index: RwLock<Index>,
    pub execs: Mutex<HashMap<String, Arc<Exec>>>,
    /// Stands while a prune is at work.
    pub pruning: std::sync::atomic::AtomicBool,
    /// Stands while the machine goes down: nothing is started any more.
    pub going_down: std::sync::atomic::AtomicBool,
    /// Until when what runs may take to stop then.
    pub stop_by: super::power_off::StopBy,
}

#[derive(Default)]
pub(super) struct Index {
    pub by_id: BTreeMap<String, Arc<Container>>,
    pub by_name: HashMap<String, String>,
}

impl Shared {
    pub fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().expect("no writer of the index panics")
    }

    pub fn index_mut(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().expect("no writer of the index panics")
    }

    /// Folder of a container's files.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.settings.data.join("containers").join(id)
    }

    /// Folder of the spools.
    pub fn spools(&self) -> PathBuf {
        self.settings.run.join("spool")
    }

    /// How a container's ids stand to the machine's.
    pub fn ids(&self, host: &HostConfig) -> IdMap {
        if host.userns_mode == "host" { IdMap::default() } else { self.settings.ids }
    }

    pub fn exec(&self, id: &str) -> Option<Arc<Exec>> {
        self.execs.lock().expect("no holder of the execs panics").get(id).cloned()
    }
}

impl Containers {
    /// The container that `reference` names: a full id, a name (with or without slash), or the beginning of one
    /// id only.
    ///
    /// # Errors
    /// None or several are so named.
    pub fn find(&self, reference: &str) -> Result<Arc<Container>, ContainerError> {
        find(&self.shared, reference)
    }

    /// Every container, newest first.
    pub fn list(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.shared.index().by_id.values().cloned().collect();
        // Each record is looked at once, under its lock.
        all.sort_by_cached_key(|container| std::cmp::Reverse(container.record().created));
        all
    }

    /// The further process of that id.
    ///
    /// # Errors
    /// There is none.
    pub fn find_exec(&self, id: &str) -> Result<Arc<Exec>, ContainerError> {
        self.shared.exec(id).ok_or_else(|| ContainerError::ExecNotFound(id.to_owned()))
    }

    /// Makes the handle and the driver of a recorded container and enters both names.
    pub(super) fn adopt(&self, record: Record, state: State) -> Arc<Container> {
        let (orders, queue) = tokio::sync::mpsc::unbounded_channel();
        let folder = self.shared.folder(&record.id);
        let container = Arc::new(Container::new(record, state, folder, orders));
        {
            let mut index = self.shared.index_mut();
            index.by_name.insert(container.record().name.clone(), container.id().to_owned());
            index.by_id.insert(container.id().to_owned(), container.clone());
        }
        tokio::spawn(driver::run(self.shared.clone(), container.clone(), queue));
        container
    }
}

/// See [`Containers::find`].
pub(super) fn find(shared: &Shared, reference: &str) -> Result<Arc<Container>, ContainerError> {
    let missing = || ContainerError::NotFound(reference.to_owned());
    if reference.is_empty() {
        return Err(missing());
    }
    let index = shared.index();
    if let Some(container) = index.by_id.get(reference) {
        return Ok(container.clone());
    }
    let name = reference.strip_prefix('/').unwrap_or(reference);
    if let Some(container) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
        return Ok(container.clone());
    }
    let mut matches = index
        .by_id
        .range(reference.to_owned()..)
        .take_while(|(id, _)| id.starts_with(reference))
        .map(|(_, container)| container);
    match (matches.next(), matches.next()) {
        (Some(container), None) => Ok(container.clone()),
        (Some(_), Some(_)) => Err(ContainerError::Ambiguous(reference.to_owned())),
        (None, _) => Err(missing()),
    }
}
