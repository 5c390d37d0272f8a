//! What works.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::Platform;
use model::reference::Digest;
use pinnace_images::registry::Credentials;
use pinnace_images::{LayerStep, Pull, PullEvent};

use crate::fake::{Answer, Fake, whole};
use crate::kit::{Data, INDEX, MANIFEST, Made, gzip, noise, request, tar};
use crate::real::Real;

fn two_layers() -> Made {
    Made::new(&[&[("etc/name", b"one"), ("below", b"1")], &[("etc/name", b"two"), ("big", &noise(500_000))]])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_whole_and_stays() {
    let real = Real::start();
    let made = two_layers();
    let name = real.push("team/app", "v1", &made);
    let data = Data::new();
    let (pulled, told) = data.pull_told(&name).await;
    let pulled = pulled.unwrap();
    assert_eq!(
        (pulled.id.as_str(), &pulled.digest, pulled.is_new),
        (made.id().as_str(), &made.digest(), true)
    );
    assert_eq!(told[0], PullEvent::From { repository: "team/app".into(), tag: "v1".into() });
    let of_first = Digest::of(&made.layers[0]);
    let steps: Vec<&LayerStep> = told
        .iter()
        .filter_map(|event| match event {
            PullEvent::Layer { id, step } if id == of_first.short() => Some(step),
            _ => None,
        })
        .filter(|step| {
            !matches!(step, LayerStep::Waiting | LayerStep::Downloading { .. } | LayerStep::Extracting { .. })
        })
        .collect();
    use LayerStep::*;
    assert_eq!(steps, [&PullingFsLayer, &VerifyingChecksum, &DownloadComplete, &PullComplete]);
    assert_eq!(told[told.len() - 2], PullEvent::Digest(made.digest()));
    assert_eq!(told[told.len() - 1], PullEvent::Status { reference: name.clone(), is_new: true });

    let data = data.again();
    let image = data.images.resolve(&name).unwrap();
    assert_eq!(image.size, 3 + 1 + 3 + 500_000);
    assert_eq!((image.config.cmd[0].as_str(), image.architecture.as_str()), ("sh", "amd64"));
    assert_eq!(image.repo_tags, [name.as_str()]);
    assert_eq!(image.repo_digests, [format!("{}/team/app@{}", real.address, made.digest())]);
    assert_eq!(image.history_sizes, [4, 500_003]);
    assert_eq!(data.read(&name, "etc/name").unwrap(), b"two");
    assert_eq!(data.read(&name, "below").unwrap(), b"1");
    assert!(data.names("tmp").is_empty());
    assert_eq!(data.names("blobs/sha256").len(), 4);

    let (pulled, told) = data.pull_told(&name).await;
    assert!(!pulled.unwrap().is_new);
    assert_eq!(told.len(), 3, "{told:?}");
    let by_digest = format!("{}/team/app@{}", real.address, made.digest());
    assert_eq!(data.pull(&by_digest).await.unwrap().id.as_str(), made.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_between_images() {
    let real = Real::start();
    let base: &[(&str, &[u8])] = &[("base", b"b")];
    let (one, two) = (Made::new(&[base, &[("one", b"1")]]), Made::new(&[base, &[("two", b"2")]]));
    let (first, second) = (real.push("one", "a", &one), real.push("two", "b", &two));
    let data = Data::new();
    data.pull(&first).await.unwrap();
    let (result, told) = data.pull_told(&second).await;
    result.unwrap();
    let of_base = Digest::of(&two.layers[0]).short().to_owned();
    assert!(told.contains(&PullEvent::Layer { id: of_base, step: LayerStep::AlreadyExists }));
    assert_eq!(data.names("layers").len(), 3);
    data.images.delete(&first, false, &|_| false).unwrap();
    assert_eq!(data.names("layers").len(), 2);
    assert_eq!(data.read(&second, "base").unwrap(), b"b");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_is_read() {
    let real = Real::start();
    let tars: Vec<Vec<u8>> = (0..3).map(|i| tar(&[(&format!("f{i}"), &noise(100_000 + i))])).collect();
    let layers = vec![tars[0].clone(), gzip(&tars[1]), zstd::encode_all(&tars[2][..], 1).unwrap()];
    let name = real.push("z", "t", &Made::of(&tars, layers, "linux", "amd64"));
    let data = Data::new();
    data.pull(&name).await.unwrap();
    for i in 0..3 {
        assert_eq!(data.read(&name, &format!("f{i}")).unwrap(), noise(100_000 + i));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_is_chosen_from_a_list() {
    let real = Real::start();
    let make = |architecture: &str| {
        let tars = vec![tar(&[("arch", architecture.as_bytes())])];
        Made::of(&tars, vec![gzip(&tars[0])], "linux", architecture)
    };
    let (amd64, arm64) = (make("amd64"), make("arm64"));
    real.push("multi", "amd64", &amd64);
    real.push("multi", "arm64", &arm64);
    let entry = |made: &Made, os: &str, architecture: &str| {
        serde_json::json!({"mediaType": MANIFEST, "digest": made.digest().to_string(), "size": made.manifest.len(),
            "platform": {"os": os, "architecture": architecture}})
    };
    let list = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        entry(&arm64, "unknown", "unknown"), entry(&arm64, "linux", "arm64"), entry(&amd64, "linux", "amd64")]});
    let list = serde_json::to_vec(&list).unwrap();
    let name = real.push_manifest("multi", "all", INDEX, &list);
    let data = Data::new();
    let pulled = data.pull(&name).await.unwrap();
    assert_eq!((pulled.id.as_str(), pulled.digest), (amd64.id().as_str(), Digest::of(&list)));
    assert_eq!(data.read(&name, "arch").unwrap(), b"amd64");
    let other = |text: &str| Pull { platform: Some(Platform::parse(text).unwrap()), ..request(&name) };
    let pulled = data.images.pull(other("linux/arm64"), &|_| {}).await.unwrap();
    assert_eq!(pulled.id.as_str(), arm64.id());
    let error = data.images.pull(other("linux/s390x"), &|_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    assert_eq!(error.kind(), model::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_fetch_a_layer_once() {
    let made = Made::new(&[&[("f", &noise(200_000))]]);
    let layer = Digest::of(&made.layers[0]).to_string();
    let slow = (layer.clone(), made.layers[0].clone());
    let fake = Fake::serving(&made, move |asked| {
        asked.path.ends_with(&slow.0).then(|| Answer::Slow(slow.1.clone(), Duration::from_millis(5)))
    });
    let data = Data::new();
    let name = fake.name();
    let (first, second) = tokio::join!(data.pull(&name), data.pull(&name));
    assert_eq!(first.unwrap().id, second.unwrap().id);
    assert_eq!(fake.asked(&layer).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_leaves_nothing_and_disturbs_nobody() {
    let made = Made::new(&[&[("f", &noise(400_000))]]);
    let slow = (Digest::of(&made.layers[0]).to_string(), made.layers[0].clone());
    let fake = Fake::serving(&made, move |asked| {
        asked.path.ends_with(&slow.0).then(|| Answer::Slow(slow.1.clone(), Duration::from_millis(5)))
    });
    let data = Data::new();
    let name = fake.name();
    let wait = Duration::from_millis(200);
    assert!(tokio::time::timeout(wait, data.pull(&name)).await.is_err());
    data.becomes_empty().await;
    let (gone, stays) = tokio::join!(tokio::time::timeout(wait, data.pull(&name)), data.pull(&name));
    assert!(gone.is_err());
    stays.unwrap();
    assert_eq!(data.read(&name, "f").unwrap(), noise(400_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let made = Made::new(&[&[("f", &noise(100_000))]]);
    let (digest, layer) = (Digest::of(&made.layers[0]).to_string(), made.layers[0].clone());
    let tries = AtomicUsize::new(0);
    let path = digest.clone();
    let fake = Fake::serving(&made, move |asked| {
        if !asked.path.ends_with(&path) {
            return None;
        }
        Some(match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Cut(layer.len(), layer[..30_000].to_vec()),
            // Knows no ranges: begins again, and breaks later.
            1 => Answer::Cut(layer.len(), layer[..60_000].to_vec()),
            _ => {
                let range = format!("bytes 60000-{}/{}", layer.len() - 1, layer.len());
                Answer::Whole(206, vec![("Content-Range", range)], layer[60_000..].to_vec())
            }
        })
    });
    let data = Data::new();
    data.pull(&fake.name()).await.unwrap();
    assert_eq!(data.read(&fake.name(), "f").unwrap(), noise(100_000));
    let asked = fake.asked(&digest);
    let ranges: Vec<_> = asked.iter().map(|asked| asked.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=30000-"), Some("bytes=60000-")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_passwords_are_given_when_asked_for() {
    let made = Made::new(&[&[("f", b"1")]]);
    let password = || Credentials::Password { username: "me".into(), password: "secret".into() };
    let basic = "Basic bWU6c2VjcmV0";
    for scheme in ["Bearer", "Basic"] {
        let fake = Fake::serving(&made, move |asked| {
            let given = asked.headers.get("authorization").map(String::as_str);
            if asked.path.starts_with("/token?") {
                assert!(asked.path.contains("service=r&account=me"), "{}", asked.path);
                let token = if given == Some(basic) { r#"{"token":"t"}"# } else { "{}" };
                return Some(whole("application/json", token.as_bytes()));
            }
            let expected = if scheme == "Basic" { basic } else { "Bearer t" };
            if given == Some(expected) {
                return None;
            }
            let realm = format!("http://{}/token", asked.headers["host"]);
            let challenge = format!("{scheme} realm=\"{realm}\",service=\"r\",scope=\"repository:x:pull\"");
            Some(Answer::Whole(401, vec![("WWW-Authenticate", challenge)], Vec::new()))
        });
        let data = Data::new();
        let pull = Pull { credentials: password(), ..request(&fake.name()) };
        data.images.pull(pull, &|_| {}).await.unwrap();
        assert_eq!(
            fake.asked("").iter().filter(|asked| asked.path.starts_with("/token")).count(),
            usize::from(scheme == "Bearer")
        );
    }
    let fake = Fake::serving(&made, |_| {
        let challenge = "Basic realm=\"x\"".to_owned();
        Some(Answer::Whole(401, vec![("WWW-Authenticate", challenge)], Vec::new()))
    });
    let error = Data::new().pull(&fake.name()).await.unwrap_err();
    assert_eq!(error.kind(), model::ErrorKind::Unauthorized);
    assert_eq!(error.to_string(), "unauthorized: authentication required");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let made = Made::new(&[&[("f", b"1")]]);
    let storage = Fake::serving(&made, |asked| {
        assert_eq!(asked.headers.get("authorization"), None);
        None
    });
    let target = storage.address.clone();
    let fake = Fake::serving(&made, move |asked| {
        if !asked.headers.contains_key("authorization") {
            let challenge = "Basic realm=\"x\"".to_owned();
            return Some(Answer::Whole(401, vec![("WWW-Authenticate", challenge)], Vec::new()));
        }
        let location = format!("http://{target}{}", asked.path);
        asked.path.contains("/blobs/").then(|| Answer::Whole(307, vec![("Location", location)], Vec::new()))
    });
    let credentials = Credentials::Password { username: "me".into(), password: "secret".into() };
    let data = Data::new();
    data.images.pull(Pull { credentials, ..request(&fake.name()) }, &|_| {}).await.unwrap();
    assert_eq!(storage.asked("").len(), 2);
}
