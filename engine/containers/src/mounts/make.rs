//! The mount points of a new container: volumes that are not there are made, each is claimed until the container's record holds it.

// All of it runs on a file worker.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::populate;
use super::spec::{self, Planned};
use super::{MountKind, MountPoint, invalid, tmpfs_places};
use crate::config::{Config, HostConfig};
use crate::error::ContainerError;
use crate::registry::{Containers, Shared};
use contract::paths;
use images::{IMAGES, ImageId};
use store::{Held, Holder, Lifetime, Writer};
use volumes::{Ask, Claim, VOLUMES, VolumeError, Volumes};

/// Where missing folders are made without a host that shares them: what runs there, and the data disk.
const OWN: [&str; 3] = ["/run", "/var/run", paths::DATA];

/// Made and not yet anybody's: unless it is [kept](Made::keep), the anonymous volumes among it are removed again.
pub(crate) struct Made {
    /// By their places.
    pub points: Vec<MountPoint>,
    claims: Vec<Claim>,
    volumes: Volumes,
    kept: bool,
}

impl Made {
    /// The container's record holds all of it.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.claims.clear();
        if self.kept {
            return;
        }
        let points = std::mem::take(&mut self.points).into_iter().filter(|point| point.anonymous);
        let names: Vec<String> = points.map(|point| point.name).collect();
        if names.is_empty() {
            return;
        }
        let volumes = self.volumes.clone();
        // Where the API is served nothing may wait for the disk.
        std::thread::spawn(move || {
            for name in names {
                match volumes.remove(&name) {
                    // One that another container has, too.
                    Ok(()) | Err(VolumeError::InUse { .. } | VolumeError::NotFound(_)) => {}
                    Err(error) => tracing::warn!(volume = name, %error, "a volume of nobody's is left"),
                }
            }
        });
    }
}

impl Containers {
    /// Makes what a new container with this image mounts.
    ///
    /// # Errors
    /// What is asked for is not there, or cannot be made.
    pub(crate) fn make_mounts(
        &self,
        config: &Config,
        host: &HostConfig,
        image: &ImageId,
    ) -> Result<Made, ContainerError> {
        let planned = self.planned(config, host)?;
        let volumes = self.shared.volumes.clone();
        let mut made = Made { points: Vec::new(), claims: Vec::new(), volumes, kept: false };
        let mut empty = Vec::new();
        for Planned { mut point, volume, copy } in planned {
            if let Some(ask) = volume {
                let (volume, claim) = self.shared.volumes.create(ask)?;
                point.name.clone_from(&volume.name);
                made.claims.push(claim);
                if copy {
                    empty.push((volume, point.destination.clone()));
                }
            }
            made.points.push(point);
        }
        if !empty.is_empty() {
            populate::populate(&self.shared, image, &empty)?;
        }
        Ok(made)
    }

    /// Of those for one place the later stands: other containers', then the creator's own; then, where nothing is yet, the
    /// paths that the configuration names.
    fn planned(&self, config: &Config, host: &HostConfig) -> Result<Vec<Planned>, ContainerError> {
        let mut places = BTreeMap::new();
        for text in &host.volumes_from {
            let (name, readonly) = spec::from(text)?;
            let other = self.find(name).map_err(|error| invalid(error.to_string()))?;
            for point in other.record().mount_points().iter() {
                let point = MountPoint { writable: point.writable && !readonly, ..point.clone() };
                let ask = Ask { name: point.name.clone(), ..Ask::default() };
                let volume = (point.kind == MountKind::Volume).then_some(ask);
                places.insert(point.destination.clone(), Planned { point, volume, copy: false });
            }
        }
        for mut planned in spec::asked(host)? {
            self.look_up(&mut planned.point)?;
            places.insert(planned.point.destination.clone(), planned);
        }
        let memory = tmpfs_places(host)?;
        for path in &config.volumes {
            let planned = spec::anonymous(path, &host.volume_driver);
            let place = &planned.point.destination;
            if !memory.iter().any(|(taken, _)| taken == place) && !places.contains_key(place) {
                places.insert(place.clone(), planned);
            }
        }
        Ok(places.into_values().collect())
    }

    /// What has to be there already.
    fn look_up(&self, point: &mut MountPoint) -> Result<(), ContainerError> {
        match point.kind {
            MountKind::Bind => source_of_bind(&self.shared, point),
            MountKind::Image => {
                let image = self.shared.images.resolve(&point.name)?.whole()?;
                point.image_id = image.id.to_string();
                let layers = self.shared.images.rootfs(&image.id)?;
                point.source = layers.last().map_or_else(String::new, |layer| layer.display().to_string());
                Ok(())
            }
            MountKind::Volume | MountKind::Tmpfs => Ok(()),
        }
    }
}

/// Whether a bind's source is there, or may be made. It is asked at a start once more: since the creation a folder may have
/// gone, or the machine booted with fewer folders of the host.
///
/// # Errors
/// dockerd's words for what is not there, Docker Desktop's for what is the host's alone.
pub(super) fn source_of_bind(shared: &Shared, point: &MountPoint) -> Result<(), ContainerError> {
    let source = shared.settings.source_of_bind(Path::new(&point.source));
    if source.exists() {
        return Ok(());
    }
    if !point.make_source {
        let text = "invalid mount config for type \"bind\": bind source path does not exist";
        return Err(invalid(format!("{text}: {}", point.source)));
    }
    match &shared.settings.host_folders {
        Some(folders) if !is_made(folders, source) => Err(not_shared(folders, source)),
        _ => Ok(()),
    }
}

/// A missing folder is made where it is the machine's own or the host shares it. Any other is one that somebody knows from the
/// host, and would get an empty folder in its place.
fn is_made(folders: &[PathBuf], source: &Path) -> bool {
    let own = OWN.iter().map(Path::new);
    own.chain(folders.iter().map(PathBuf::as_path)).any(|folder| source.starts_with(folder))
}

fn not_shared(folders: &[PathBuf], source: &Path) -> ContainerError {
    let helps = match folders.is_empty() {
        true => "this machine shares no folder of the host, so use a volume or docker cp",
        false => "share it with pinnace up --share, or use a volume",
    };
    let denied = "is not shared from the host and is not known to Docker";
    invalid(format!("mounts denied: the path {} {denied}: {helps}", source.display()))
}

/// Lets the container hold its volumes and images, in the transaction of its record.
pub(crate) fn held(
    writer: &mut Writer<'_>,
    points: &[MountPoint],
    holder: &Holder,
) -> Result<(), ContainerError> {
    for point in points {
        match point.kind {
            MountKind::Volume => {
                if !writer.contains(VOLUMES, point.name.as_str())? {
                    return Err(VolumeError::NotFound(point.name.clone()).into());
                }
                writer.hold(&Held::Volume(point.name.clone()), holder, Lifetime::Existence);
            }
            MountKind::Image => {
                let image: ImageId = point.image_id.parse()?;
                if !writer.contains(IMAGES, image.digest())? {
                    return Err(ContainerError::Image(images::ImageError::not_found(&point.name)));
                }
                writer.hold(&image.held_as(), holder, Lifetime::Existence);
            }
            MountKind::Bind | MountKind::Tmpfs => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_folders_are_made_where_they_are_known() {
        let check = |folders: &[&str], source: &str, want: bool| {
            let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
            assert_eq!(is_made(&folders, Path::new(source)), want, "{source}");
        };
        check(&[], "/run/x/y", true);
        check(&[], "/var/lib/pinnace/volumes/v/_data/x", true);
        check(&[], "/var/lib/other", false);
        check(&[], "/home/me/project", false);
        check(&["/home/me"], "/home/me/project", true);
        check(&["/home/me"], "/home/media", false);
    }
}
