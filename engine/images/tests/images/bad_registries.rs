//! What does not work, and that nothing is left behind.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use model::ErrorKind;
use model::reference::Digest;
use pinnace_images::ImageError;

use crate::fake::{Answer, Fake, whole};
use crate::kit::{Data, MANIFEST, Made, gzip, manifest, noise, open, request, tar};
use crate::real::Real;

async fn refused(data: &Data, name: &str) -> ImageError {
    let error = data.pull(name).await.unwrap_err();
    assert!(data.images.list().is_empty());
    data.becomes_empty().await;
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_noticed() {
    let real = Real::start();
    let made = Made::new(&[&[("good", b"1")], &[("f", &noise(300_000))]]);
    let name = real.push("x", "t", &made);
    let digest = Digest::of(&made.layers[1]);
    let file = real.blob_file(&digest);
    let whole = fs::read(&file).unwrap();
    let data = Data::new();
    for at in [15, whole.len() / 2, whole.len() - 3] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        let error = refused(&data, &name).await;
        assert_eq!(error.to_string(), format!("filesystem layer verification failed for digest {digest}"));
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(refused(&data, &name).await, ImageError::Length { .. }));
    fs::write(&file, [&whole[..], b"more"].concat()).unwrap();
    assert!(matches!(refused(&data, &name).await, ImageError::Length { .. }));
    fs::write(&file, &whole).unwrap();
    data.pull(&name).await.unwrap();
    assert_eq!(data.read(&name, "f").unwrap(), noise(300_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_the_configurations_is_refused() {
    let real = Real::start();
    let (told, given) = (tar(&[("a", b"1")]), tar(&[("a", b"2")]));
    let name = real.push("x", "t", &Made::of(&[told], vec![gzip(&given)], "linux", "amd64"));
    assert!(matches!(refused(&Data::new(), &name).await, ImageError::DiffId(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_no_archive_is_refused() {
    let real = Real::start();
    let junk = noise(5000);
    let name =
        real.push("x", "t", &Made::of(std::slice::from_ref(&junk), vec![gzip(&junk)], "linux", "amd64"));
    let error = refused(&Data::new(), &name).await.to_string();
    assert!(error.starts_with("failed to register layer: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_system_is_refused() {
    let real = Real::start();
    let name = real.push("x", "t", &Made::of(&[], vec![], "windows", "amd64"));
    let error = refused(&Data::new(), &name).await;
    assert!(error.to_string().starts_with("image operating system \"windows\" cannot be used"));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_in_dockers_words() {
    let real = Real::start();
    let name = real.push("there", "t", &Made::new(&[&[("a", b"1")]]));
    let data = Data::new();
    let gone = name.replace(":t", ":gone");
    let error = refused(&data, &gone).await;
    let expected = format!("manifest for {gone} not found: manifest unknown: manifest unknown");
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NotFound));
    let error = refused(&data, &format!("{}/nowhere:t", real.address)).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let denied = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let fake = Fake::start(|_| Answer::Whole(401, Vec::new(), denied.to_vec()));
    let error = refused(&data, &fake.name()).await;
    let expected = format!(
        "pull access denied for {}/x, repository does not exist or may require 'docker login': denied: requested \
         access to the resource is denied",
        fake.address
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_told() {
    let data = Data::new();
    let error = refused(&data, "127.0.0.1:1/x:t").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "Get \"http://127.0.0.1:1/v2/x/manifests/t\": connection refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused() {
    let made = Made::new(&[&[("a", b"1")]]);
    let data = Data::new();
    for (media_type, body) in [
        ("text/html", &b"<html>hello</html>"[..]),
        (MANIFEST, b""),
        (MANIFEST, b"{}"),
        (MANIFEST, b"\xff\xfe"),
        ("application/json", &made.manifest),
        (MANIFEST, br#"{"schemaVersion":2,"config":{"digest":"../../x","size":1},"layers":[]}"#),
    ] {
        let body = body.to_vec();
        let fake = Fake::start(move |_| whole(media_type, &body));
        assert!(matches!(refused(&data, &fake.name()).await, ImageError::Malformed(_)), "{media_type}");
    }
    let fake = Fake::start(|_| Answer::Whole(200, Vec::new(), vec![b' '; 5 << 20]));
    assert!(refused(&data, &fake.name()).await.to_string().contains("longer than"));
    let fake = Fake::start(|_| Answer::Whole(302, vec![("Location", "/again".into())], Vec::new()));
    assert!(refused(&data, &fake.name()).await.to_string().contains("too many redirects"));
    // Asked by digest, another manifest.
    let other = Made::new(&[&[("b", b"2")]]);
    let fake = Fake::serving(&other, |_| None);
    let error = refused(&data, &format!("{}/x@{}", fake.address, made.digest())).await;
    assert!(error.to_string().contains("manifest verification failed"), "{error}");
    // A configuration that is another one, and one of absurd length.
    let config = made.config.clone();
    let digest = Digest::of(&config).to_string();
    let fake = Fake::serving(&made, move |asked| {
        asked.path.ends_with(&digest).then(|| whole("x", &vec![b'{'; config.len()]))
    });
    assert!(matches!(refused(&data, &fake.name()).await, ImageError::Verification(_)));
    let absurd = String::from_utf8(manifest(&made.config, &made.layers)).unwrap();
    let absurd = absurd.replace(&format!("\"size\":{}", made.config.len()), "\"size\":9999999999");
    let fake = Fake::start(move |_| whole(MANIFEST, absurd.as_bytes()));
    assert!(matches!(refused(&data, &fake.name()).await, ImageError::Malformed(_)));
}

/// Not a test: the engine that [`kill_in_the_middle`] kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by kill_in_the_middle"]
async fn an_engine_to_be_killed() {
    let (Ok(folder), Ok(name)) = (std::env::var("KILLED_DATA"), std::env::var("KILLED_NAME")) else { return };
    let images = open(folder.as_ref());
    let _ = images.pull(request(&name), &|_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_in_the_middle() {
    let made = Made::new(&[&[("first", b"1")], &[("f", &noise(900_000))]]);
    let slow = (Digest::of(&made.layers[1]).to_string(), made.layers[1].clone());
    let fake = Fake::serving(&made, move |asked| {
        asked.path.ends_with(&slow.0).then(|| Answer::Slow(slow.1.clone(), Duration::from_millis(3)))
    });
    let mut data = Data::new();
    for millis in [60, 200, 350, 500, 650, 700, 750, 800, 900] {
        let Data { folder, images } = data;
        drop(images);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "bad_registries::an_engine_to_be_killed", "--ignored"])
            .env("KILLED_DATA", folder.path())
            .env("KILLED_NAME", fake.name())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let images = open(folder.path());
        data = Data { folder, images };
        if data.images.list().is_empty() {
            data.becomes_empty().await;
        } else {
            assert_eq!(data.read(&fake.name(), "f").unwrap(), noise(900_000));
            data.images.delete(&fake.name(), false, &|_| false).unwrap();
        }
    }
    data.pull(&fake.name()).await.unwrap();
    assert_eq!(data.read(&fake.name(), "first").unwrap(), b"1");
}
