//! Which servers are believed.

use std::process::Command;

use model::ErrorKind;
use pinnace_images::registry::ClientConfig;
use pinnace_images::{ImageError, Pulled};

use crate::kit::{Data, Made, open_with, request};
use crate::real::Real;

async fn pull_with(config: ClientConfig, name: &str) -> Result<Pulled, ImageError> {
    let folder = tempfile::tempdir().unwrap();
    open_with(folder.path(), config).pull(request(name), &|_| {}).await
}

/// An address of this machine that is not loopback.
fn outer_address() -> Option<String> {
    let all = Command::new("hostname").arg("-I").output().unwrap().stdout;
    let all = String::from_utf8(all).unwrap();
    all.split_whitespace().find(|address| !address.contains(':')).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_on_loopback_needs_no_good_certificate() {
    let plain = Real::start();
    plain.push("x", "t", &Made::new(&[&[("a", b"1")]]));
    let (secure, _) = plain.with_tls("127.0.0.1");
    let data = Data::new();
    data.pull(&format!("{}/x:t", secure.address)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_registry_does() {
    let Some(host) = outer_address() else { return };
    let plain = Real::start();
    plain.push("x", "t", &Made::new(&[&[("a", b"1")]]));
    let (secure, certificate) = plain.with_tls(&host);
    let name = format!("{}/x:t", secure.address);
    let nobody = ClientConfig { ca_certificates: "/nowhere".into(), ..ClientConfig::default() };
    let error = pull_with(nobody.clone(), &name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    pull_with(ClientConfig { ca_certificates: certificate, ..ClientConfig::default() }, &name).await.unwrap();
    for insecure in [secure.address.clone(), host.clone(), format!("{host}/32")] {
        pull_with(ClientConfig { insecure: vec![insecure], ..nobody.clone() }, &name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_hubs_mirrors_are_asked_in_turn() {
    let real = Real::start();
    real.push("library/app", "t", &Made::new(&[&[("a", b"1")]]));
    let mirrors = vec!["http://127.0.0.1:1".to_owned(), format!("http://{}/", real.address)];
    let config = ClientConfig { ca_certificates: "/nowhere".into(), insecure: Vec::new(), mirrors };
    let pulled = pull_with(config, "app:t").await.unwrap();
    assert!(pulled.is_new);
}
