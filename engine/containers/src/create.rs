//! Creating a container: name reserved → image held → recorded. Each step undoes itself.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::{Config, HostConfig};
use super::error::ContainerError;
use super::files::on_files;
use super::mounts::Made;
use super::names;
use super::record::{CONTAINERS, ContainerSpec, ContainerState, EndpointSettings, Record, Recorded, STATES};
use super::registry::Containers;
use super::rename::take_name;
use super::resources::{Resources, Support};
use super::state::{Ended, State};
use images::{Image, ImageConfig, ImageError};
use model::Platform;
use model::id::new_id;
use model::timestamp::Timestamp;
use store::{Durability, Lifetime, Writer};

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// Empty: one is made up.
    pub name: String,
    /// What runs.
    pub config: Config,
    /// How it stands in the machine.
    pub host: HostConfig,
    /// What it asks of its place on each network, by the network's name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What the image must be for; any where nobody asked.
    pub platform: Option<Platform>,
    /// What is to be told of the request itself.
    pub warnings: Vec<String>,
}

/// The new container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What was not done as asked.
    pub warnings: Vec<String>,
}

/// A name in the index that is given back unless kept.
struct Reservation<'a> {
    containers: &'a Containers,
    name: String,
    kept: bool,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.containers.shared.index_mut().by_name.remove(&self.name);
        }
    }
}

impl Containers {
    /// Creates a container; durable when this returns.
    ///
    /// # Errors
    /// Those Docker's clients know: bad name or configuration, name in use, no such image.
    pub async fn create(&self, mut request: Create) -> Result<Created, ContainerError> {
        let image = self.shared.images.resolve(&request.config.image)?.whole()?;
        let mut warnings = std::mem::take(&mut request.warnings);
        warnings.extend(meets(&image, &request)?);
        self.name_networks(&mut request)?;
        let mut config = merge(request.config, &image.config);
        super::launch::validate(&config, &request.host)?;
        super::health::validate(&config)?;
        request.endpoints.values().try_for_each(|settings| super::places::mac(settings).map(drop))?;
        super::join::meet_mapped_ids(&request.host, self.shared.settings.ids)?;
        self.name_by_id(&mut request.host.pid_mode)?;
        self.name_by_id(&mut request.host.ipc_mode)?;
        warnings.extend(self.verify_limits(&mut request.host.resources)?);
        if config.entrypoint.iter().chain(&config.cmd).flatten().next().is_none() {
            return Err(ContainerError::Invalid("no command specified".to_owned()));
        }
        let id = new_id();
        config.working_dir = clean(&config.working_dir);
        if config.hostname.is_empty() {
            config.hostname = match request.host.network_mode.as_str() {
                "host" => machine_name()?,
                _ => {
                    let donor = super::places::joined(&request.host).and_then(|other| self.find(other).ok());
                    donor.map_or_else(|| id[..12].to_owned(), |donor| donor.record().config.hostname.clone())
                }
            };
        }
        let mut reservation = self.reserve(&request.name, &id)?;
        let made = self.mounts_of(&config, &request.host, &image).await?;
        let spec = ContainerSpec {
            name: reservation.name.clone(),
            created: Timestamp::now(),
            image_id: image.id.to_string(),
            config,
            host: request.host,
            endpoints: request.endpoints,
            points: Some(made.as_ref().map_or_else(Vec::new, |made| made.points.clone())),
        };
        let state = ContainerState::of(Recorded::Created(Ended::default()));
        let record = Record::new(id.clone(), spec, state);
        super::places::check(&self.shared, &record)?;
        self.make_folders(&record, &image).await?;
        let stored = self.store_new(record.clone(), &image).await;
        if let Err(error) = stored {
            let folder = self.shared.folder(&id);
            on_files(move || super::remove::delete_folder(&folder)).await?;
            return Err(error);
        }
        if let Some(made) = made {
            made.keep();
        }
        reservation.kept = true;
        drop(reservation);
        let container = self.adopt(record, State::Created(Ended::default()));
        self.publish(&container, "create", &[]);
        Ok(Created { id, warnings })
    }

    /// What it mounts, made; without a turn of a worker where that is nothing.
    async fn mounts_of(
        &self,
        config: &Config,
        host: &HostConfig,
        image: &Image,
    ) -> Result<Option<Made>, ContainerError> {
        if !super::mounts::any(config, host) {
            return Ok(None);
        }
        let (this, config, host, image) = (self.clone(), config.clone(), host.clone(), image.id.clone());
        on_files(move || this.make_mounts(&config, &host, &image)).await?.map(Some)
    }

    fn verify_limits(&self, resources: &mut Resources) -> Result<Vec<String>, ContainerError> {
        // Nothing is asked of the machine, in a dozen files, where nothing is limited.
        if *resources == Resources::default() {
            return Ok(Vec::new());
        }
        resources.complete();
        let support = Support::of(&self.shared.cgroups());
        resources.verify(&support, false).map_err(ContainerError::Invalid)
    }

    /// A container that is joined is known by its id, so that it may be renamed.
    fn name_by_id(&self, mode: &mut String) -> Result<(), ContainerError> {
        if let Some(name) = mode.strip_prefix("container:") {
            let other = self.find(name).map_err(|error| ContainerError::Invalid(error.to_string()))?;
            *mode = format!("container:{}", other.id());
        }
        Ok(())
    }

    /// Places are known by their networks' names, however these were named, and the mode's network is among them. Another
    /// container whose network is used need not be there yet, one that is linked to must be.
    fn name_networks(&self, request: &mut Create) -> Result<(), ContainerError> {
        for link in &request.host.links {
            let (target, _) = super::places::split_link(link);
            self.find(&target).map_err(|error| {
                ContainerError::Invalid(format!("could not get container for {target}: {error}"))
            })?;
        }
        let networks = &self.shared.networks;
        let name = |reference: &str| match networks.find(reference) {
            Ok(network) => network.record.name.clone(),
            Err(_) => reference.to_owned(),
        };
        let asked = std::mem::take(&mut request.endpoints);
        let named = asked.into_iter().map(|(network, settings)| (name(&network), settings));
        request.endpoints = named.collect();
        match super::places::joined(&request.host) {
            Some(other) => {
                if let Ok(other) = self.find(other) {
                    request.host.network_mode = format!("container:{}", other.id());
                }
                request.endpoints.clear();
            }
            None => drop(request.endpoints.entry(name(&request.host.network_mode)).or_default()),
        }
        Ok(())
    }

    fn reserve(&self, wanted: &str, id: &str) -> Result<Reservation<'_>, ContainerError> {
        let mut index = self.shared.index_mut();
        let name = if wanted.is_empty() {
            let free = (0..1000).map(names::generate).find(|name| !index.by_name.contains_key(name));
            free.ok_or_else(|| ContainerError::Conflict("no free name was found, give one".to_owned()))?
        } else {
            names::validate(wanted)?.to_owned()
        };
        if let Some(holder) = index.by_name.get(&name) {
            return Err(ContainerError::NameTaken { name, holder: holder.clone() });
        }
        index.by_name.insert(name.clone(), id.to_owned());
        Ok(Reservation { containers: self, name, kept: false })
    }

    async fn make_folders(&self, record: &Record, image: &Image) -> Result<(), ContainerError> {
        let folder = self.shared.folder(&record.id);
        let layers = self.shared.images.rootfs(&image.id)?;
        let root = self.shared.ids(&record.host).root();
        let made = on_files(move || make_folders(&folder, layers.last(), root)).await?;
        made.map_err(ContainerError::machine("make the container's folder"))
    }

    async fn store_new(&self, record: Record, image: &Image) -> Result<(), ContainerError> {
        let image = image.id.clone();
        self.shared
            .store
            .write_async(Durability::Synced, move |writer: &mut Writer<'_>| {
                // Removed by somebody else since it was resolved.
                if !writer.contains(images::IMAGES, image.digest())? {
                    let text = record.config.image.clone();
                    return Err(ContainerError::Image(images::ImageError::not_found(&text)));
                }
                take_name(writer, &record.name, &record.id)?;
                writer.hold(&image.held_as(), &record.holder(), Lifetime::Existence);
                super::mounts::held(writer, record.points.as_deref().unwrap_or_default(), &record.holder())?;
                writer.put(STATES, record.id.as_str(), &record.state_row())?;
                Ok(writer.put(CONTAINERS, record.id.as_str(), &record.spec)?)
            })
            .await
    }
}

/// All of them or nothing.
#[allow(clippy::disallowed_methods)] // On a file worker.
fn make_folders(folder: &Path, top: Option<&PathBuf>, root: u32) -> std::io::Result<()> {
    std::fs::create_dir(folder)?;
    make_writable(folder, top, root).inspect_err(|_| super::remove::delete_folder(folder))
}

/// The writable folder becomes the root folder that the container sees: it looks like that of the image's `top` layer, or
/// belongs to `root`.
#[allow(clippy::disallowed_methods)] // On a file worker or a launching thread.
pub(super) fn make_writable(folder: &Path, top: Option<&PathBuf>, root: u32) -> std::io::Result<()> {
    let upper = folder.join("upper");
    std::fs::create_dir_all(&upper)?;
    match top {
        Some(top) => {
            let top = std::fs::metadata(top)?;
            std::os::unix::fs::chown(&upper, Some(top.uid()), Some(top.gid()))?;
            std::fs::set_permissions(&upper, top.permissions())?;
        }
        None => std::os::unix::fs::chown(&upper, Some(root), Some(root))?,
    }
    std::fs::create_dir_all(folder.join("work"))
}

#[allow(clippy::disallowed_methods)] // The kernel answers from memory.
fn machine_name() -> Result<String, ContainerError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    Ok(name.map_err(ContainerError::machine("read the machine's name"))?.trim().to_owned())
}

/// An image for another platform than asked for is none; where nobody asked, a foreign one is warned of.
fn meets(image: &Image, request: &Create) -> Result<Option<String>, ImageError> {
    let (found, host) = (image.platform(), Platform::host());
    match &request.platform {
        Some(asked) if !asked.runs(&found) => {
            let reference = request.config.image.clone();
            let (found, asked) = (found.to_string(), asked.to_string());
            Err(ImageError::OtherPlatform { reference, found, asked })
        }
        None if !host.runs(&found) => Ok(Some(format!(
            "The requested image's platform ({found}) does not match the detected host platform ({host}) and no \
             specific platform was requested"
        ))),
        _ => Ok(None),
    }
}

/// The image's configuration under the container's: a value of the container wins, lists of `KEY=value` and maps
/// are joined by key, and an entrypoint of the container's drops the image's command.
fn merge(mut config: Config, image: &ImageConfig) -> Config {
    let keep = |own: &mut String, other: &str| {
        if own.is_empty() {
            *own = other.to_owned();
        }
    };
    keep(&mut config.user, &image.user);
    keep(&mut config.working_dir, &image.working_dir);
    keep(&mut config.stop_signal, image.stop_signal.as_deref().unwrap_or(""));
    config.env = merge_env(&image.env, config.env);
    config.healthcheck = super::health::merge(config.healthcheck.take(), image.healthcheck.as_ref());
    for (key, value) in &image.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    config.exposed_ports.extend(image.exposed_ports.iter().cloned());
    config.volumes.extend(image.volumes.iter().cloned());
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) && config.cmd.as_ref().is_none_or(Vec::is_empty) {
        config.cmd = some_words(&image.cmd);
    }
    if config.entrypoint.is_none() {
        config.entrypoint = some_words(&image.entrypoint);
    }
    // One empty word is no entrypoint, whoever wrote it.
    if matches!(config.entrypoint.as_deref(), Some([word]) if word.is_empty()) {
        config.entrypoint = None;
    }
    config
}

/// The path without `.`, `..` and repeated slashes, as Go's path.Clean gives it.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if path.is_empty() { String::new() } else { format!("/{}", parts.join("/")) }
}

fn some_words(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.to_vec())
}

fn merge_env(image: &[String], own: Vec<String>) -> Vec<String> {
    let key = |word: &str| word.split('=').next().unwrap_or("").to_owned();
    let mut merged = own;
    for word in image {
        if !merged.iter().any(|other| key(other) == key(word)) {
            merged.push(word.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_command_merge_as_docker_merges() {
        let image = ImageConfig { entrypoint: words("/ep"), cmd: words("a b"), ..ImageConfig::default() };
        let check = |entrypoint: Option<&str>, cmd: Option<&str>, expected: &str| {
            let entrypoint = entrypoint.map(|e| if e.is_empty() { vec![String::new()] } else { words(e) });
            let config = Config { entrypoint, cmd: cmd.map(words), ..Config::default() };
            let merged = merge(config, &image);
            let got: Vec<_> = merged.entrypoint.into_iter().chain(merged.cmd).flatten().collect();
            assert_eq!(got, words(expected));
        };
        check(None, None, "/ep a b");
        check(None, Some("c"), "/ep c");
        check(Some("/own"), None, "/own");
        check(Some("/own"), Some("c"), "/own c");
        check(Some(""), Some("c"), "c");
        check(Some(""), None, "");
    }

    /// As dockerd 28.5.2 shows them in inspect.
    #[test]
    fn an_empty_word_is_no_entrypoint_whoever_wrote_it() {
        let check = |image: &str, own: Option<&[&str]>, expected: (Option<&str>, Option<&str>)| {
            let image = ImageConfig {
                entrypoint: if image.is_empty() { vec![String::new()] } else { words(image) },
                cmd: words("sh"),
                ..ImageConfig::default()
            };
            let entrypoint = own.map(|own| own.iter().map(|word| (*word).to_owned()).collect());
            let merged = merge(Config { entrypoint, ..Config::default() }, &image);
            let text = |words: Option<Vec<String>>| words.map(|words| words.join(" "));
            let got = (text(merged.entrypoint), text(merged.cmd));
            assert_eq!((got.0.as_deref(), got.1.as_deref()), expected, "{own:?}");
        };
        check("", None, (None, Some("sh")));
        check("", Some(&[]), (Some(""), Some("sh")));
        check("/ep", Some(&[]), (Some(""), Some("sh")));
        check("/ep", Some(&[""]), (None, None));
        check("", Some(&["", "x"]), (Some(" x"), None));
    }

    #[test]
    fn working_directories_are_cleaned() {
        for (path, expected) in
            [("", ""), ("/", "/"), ("/a/../b/.", "/b"), ("//a//b/", "/a/b"), ("/../x", "/x")]
        {
            assert_eq!(clean(path), expected);
        }
    }

    #[test]
    fn environment_merges_by_key() {
        let image = ImageConfig { env: words("A=1 B=2"), ..ImageConfig::default() };
        let config = Config { env: words("B=3 C=4"), ..Config::default() };
        assert_eq!(merge(config, &image).env, words("B=3 C=4 A=1"));
    }
}
