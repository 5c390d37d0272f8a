//! What every handler is given.

// It runs before the API is served, or on a thread of its own.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use containers::{self, Containers, Rooms};
use contract::config::Config;
use contract::paths;
use contract::settings::{Backend, Settings};
use images::Images;
use model::events::Events;
use networks::ports::Ports;
use networks::{NameSockets, Networks};
use runtime::ids::IdMap;
use runtime::keeper::Keeper;
use store::{Durability, Store, StoreError, Table};
use volumes::Volumes;

/// What the engine learns once.
const SETTINGS: Table<str, String> = Table::new("settings");
/// The engine's own id.
const ENGINE_ID: &str = "engine-id";

/// What PID 1 left open at agreed numbers.
pub struct Inherited {
    /// The keeper.
    pub keeper: Option<OwnedFd>,
    /// The API's unix socket.
    pub unix: Option<OwnedFd>,
    /// The API's vsock, where there is one.
    pub vsock: Option<OwnedFd>,
    /// The host door.
    pub door: Option<OwnedFd>,
    /// The name server's sockets, where the machine has IPv4.
    pub names: Option<NameSockets>,
    /// The configuration document, where this boot has one.
    pub config: Option<OwnedFd>,
}

impl Inherited {
    /// Takes all of it over.
    pub fn take() -> Inherited {
        Inherited {
            keeper: sys::inherit::take(paths::KEEPER_FD),
            unix: sys::inherit::take(paths::API_UNIX_FD),
            vsock: sys::inherit::take(paths::API_VSOCK_FD),
            door: sys::inherit::take(paths::DOOR_FD),
            names: sys::inherit::take(paths::NAMES_UDP_FD)
                .zip(sys::inherit::take(paths::NAMES_TCP_FD))
                .map(|(udp, tcp)| NameSockets { udp, tcp }),
            config: sys::inherit::take(paths::CONFIG_FD),
        }
    }
}

/// Reads the configuration document. It is read by position: every engine of this boot has the same open file.
///
/// # Errors
/// It is not readable, or of a later release.
pub fn configuration(document: Option<&OwnedFd>) -> anyhow::Result<Config> {
    let Some(document) = document else { return Ok(Config::default()) };
    let document = File::from(document.try_clone().context("open the configuration")?);
    let length = usize::try_from(document.metadata().context("open the configuration")?.len())?;
    let mut bytes = vec![0; length];
    document.read_exact_at(&mut bytes, 0).context("read the configuration")?;
    let (config, unknown) = Config::from_bytes(&bytes)?;
    unknown
        .iter()
        .for_each(|field| tracing::warn!(field, "the configuration says what this release does not know"));
    Ok(config)
}

/// The engine.
pub struct App {
    /// All containers.
    pub containers: Containers,
    /// All images.
    pub images: Arc<Images>,
    /// All networks.
    pub networks: Arc<Networks>,
    /// All volumes.
    pub volumes: Volumes,
    /// The event bus.
    pub events: Arc<Events>,
    /// This engine's own id, made once.
    pub id: String,
    /// As the machine's owner told.
    pub config: Config,
}

impl App {
    /// Opens everything and takes back what PID 1 holds.
    ///
    /// # Errors
    /// The data disk or PID 1 failed.
    pub async fn open(
        settings: &Settings,
        config: Config,
        keeper: Option<OwnedFd>,
        output: tokio::runtime::Handle,
        ports: Arc<Ports>,
        names: tokio::runtime::Handle,
    ) -> anyhow::Result<Arc<App>> {
        let (ids, data) = (IdMap::from(config.userns_remap), data(&config));
        std::fs::create_dir_all(&data).context("make the folder of the data")?;
        let store = Store::open(&data.join("meta.redb"))?;
        let id = engine_id(&store)?;
        let events = Arc::new(Events::default());
        let images = Arc::new(Images::open(store.clone(), &data, ids, registry(&config))?);
        images.publish_to(events.clone());
        let host = config.host.as_ref().map(networks::Host::new);
        let resolv_conf = PathBuf::from(paths::RESOLV_CONF);
        let networks = Arc::new(Networks::open(&store, resolv_conf, ids, names, host)?);
        networks.publish_to(events.clone());
        let keeper = keeper.context("PID 1 gave no keeper socket")?;
        let keeper = Arc::new(Keeper::connect(keeper)?);
        bring_networks_up(networks.clone(), ports.clone(), settings.backend)
            .context("bring the networks up")?;
        let volumes = Volumes::open(store.clone(), &data, ids, events.clone(), keeper.clone())?;
        let places = containers::Settings {
            data,
            run: PathBuf::from(paths::RUN),
            cgroups: PathBuf::from(paths::CGROUP),
            ids,
            host_folders: config
                .host_folders
                .as_deref()
                .map(|folders| containers::bring_in_host_folders(Path::new(paths::HOST_FOLDERS), folders)),
            ssh_agent: config.ssh_agent.as_deref().map(PathBuf::from),
        };
        let rooms = Rooms {
            store,
            images: images.clone(),
            networks: networks.clone(),
            ports,
            volumes: volumes.clone(),
            events: events.clone(),
        };
        let containers = Containers::open(places, rooms, keeper, output).await?;
        Ok(Arc::new(App { containers, images, networks, volumes, events, id, config }))
    }
}

/// Where the engine's data is: that of mapped ids is apart from all other, as dockerd has it.
pub fn data(config: &Config) -> PathBuf {
    let data = PathBuf::from(paths::DATA);
    config.userns_remap.map_or_else(|| data.clone(), |first| data.join(format!("{first}.{first}")))
}

fn engine_id(store: &Store) -> anyhow::Result<String> {
    match store.read(|reader| reader.get(SETTINGS, ENGINE_ID)) {
        Ok(Some(known)) => return Ok(known),
        Ok(None) => {}
        Err(StoreError::Damaged(row)) => tracing::error!("the engine gets another id: {row}"),
        Err(error) => return Err(error.into()),
    }
    let id = model::id::new_id();
    let made = id.clone();
    store.write(Durability::Soon, move |writer| writer.put(SETTINGS, ENGINE_ID, &made))?;
    Ok(id)
}

/// The bridge needs modules that PID 1 loads while the engine already serves.
fn bring_networks_up(networks: Arc<Networks>, ports: Arc<Ports>, backend: Backend) -> std::io::Result<()> {
    let bring_up = move || {
        let ready = Path::new(paths::MODULES_READY);
        // Without the mark after so long the modules failed; then the kernel's own answer is the error.
        for _ in 0..1200 {
            if backend == Backend::Namespace || ready.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        networks.bring_up();
        ports.bring_up();
        // What the first container would otherwise pay for.
        containers::warm_up();
    };
    std::thread::Builder::new().name("networks".to_owned()).spawn(bring_up).map(drop)
}

fn registry(config: &Config) -> Arc<dyn images::registry::Registry> {
    let client = images::registry::ClientConfig {
        ca_certificates: PathBuf::from(paths::CA_CERTIFICATES),
        insecure: config.insecure_registries.clone(),
        mirrors: config.registry_mirrors.clone(),
    };
    Arc::new(images::registry::Client::new(client))
}
