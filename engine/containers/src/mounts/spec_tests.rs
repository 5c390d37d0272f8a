//! Specifications and dockerd's words for them.

use super::super::request::{BindOptions, VolumeOptions};
use super::*;

fn host(tmpfs: &[&str], binds: &[&str]) -> HostConfig {
    HostConfig {
        tmpfs: tmpfs.iter().map(|target| ((*target).to_owned(), String::new())).collect(),
        binds: binds.iter().map(|bind| (*bind).to_owned()).collect(),
        ..HostConfig::default()
    }
}

#[test]
fn each_place_is_mounted_on_once() {
    let check = |tmpfs: &[&str], binds: &[&str], expected: Result<usize, &str>| {
        let got = check_all(&host(tmpfs, binds)).map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected, "{tmpfs:?} {binds:?}");
    };
    check(&["/a"], &["/x:/b"], Ok(1));
    check(&["/a", "/a/"], &[], Ok(0));
    check(&[], &["/x:/a", "/y:/a"], Err("Duplicate mount point: /a"));
    check(&[], &["/x:/a", "/y:/a/"], Err("Duplicate mount point: /a"));
    check(&[], &["/x:/a", "vol:/b/../a"], Err("Duplicate mount point: /a"));
    check(&["/a/"], &["/x:/a"], Err("Duplicate mount point: /a"));
    for root in ["/", "//", "/.", "/../", "/a/../"] {
        check(&[root], &[], Err("invalid specification: destination can't be '/'"));
    }
    check(&["rel"], &[], Err("invalid mount path: 'rel' mount path must be absolute"));
}

#[test]
fn binds_are_read_as_dockerd_reads_them() {
    let check = |text: &str, expected: Result<(&str, &str, &str, bool), &str>| {
        let got = of_bind(text, "").map(|planned| planned.point);
        let got = got.as_ref().map(|point| {
            let from = if point.kind == MountKind::Bind { &point.source } else { &point.name };
            (from.as_str(), point.destination.as_str(), point.mode.as_str(), point.writable)
        });
        assert_eq!(got.map_err(String::as_str), expected, "{text}");
    };
    check("/x", Ok(("", "/x", "z", true)));
    check("vol:/x", Ok(("vol", "/x", "z", true)));
    check("vol:/x:nocopy,ro", Ok(("vol", "/x", "nocopy,ro", false)));
    check("/tmp/:/x/../y/", Ok(("/tmp", "/y", "", true)));
    check("/tmp:/x:", Ok(("/tmp", "/x", "", true)));
    check("/tmp:/x:Z,rshared,cached", Ok(("/tmp", "/x", "Z,rshared,cached", true)));
    check("./a:/x", Ok(("./a", "/x", "z", true)));
    let text = "invalid volume specification: 'x': invalid mount config for type \"volume\": invalid mount path: 'x' mount \
                path must be absolute";
    check("x", Err(text));
    let text = "invalid volume specification: '/x:/.': invalid mount config for type \"bind\": invalid specification: \
                destination can't be '/'";
    check("/x:/.", Err(text));
    for bad in ["", ":/x", "/x:rw", "/x:", "vv:", "vv:/x:ro:z"] {
        check(bad, Err(&format!("invalid volume specification: '{bad}'")));
    }
    check("vv:/x:foo", Err("invalid mode: foo"));
    check("vv:/x:ro,rw", Err("invalid mode: ro,rw"));
    check("/tmp:/x:cached,delegated", Err("invalid mode: cached,delegated"));
    check("vv:/x:,", Err("invalid mode: ,"));
    let text = "invalid volume specification: 'vv:/x:shared': invalid mount config for type \"volume\": field BindOptions \
                must not be specified";
    check("vv:/x:shared", Err(text));
    let text = "invalid volume specification: '/a:/x:nocopy': invalid mount config for type \"bind\": field VolumeOptions \
                must not be specified";
    check("/a:/x:nocopy", Err(text));
}

#[test]
fn mounts_are_refused_as_dockerd_refuses_them() {
    let check = |kind: &str, source: &str, target: &str, expected: &str| {
        let mount = Mount {
            r#type: kind.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            ..Mount::default()
        };
        let expected = format!("invalid mount config for type \"{kind}\": {expected}");
        assert_eq!(of_mount(&mount).unwrap_err(), expected);
    };
    check("bind", "", "/x", "field Source must not be empty");
    check("bind", "rel", "/x", "invalid mount path: 'rel' mount path must be absolute");
    check("bind", "/tmp", "x", "invalid mount path: 'x' mount path must be absolute");
    check("bind", "/tmp", "", "field Target must not be empty");
    check("bind", "/tmp", "/", "invalid specification: destination can't be '/'");
    check("tmpfs", "a", "/x", "field Source must not be specified");
    check("image", "", "/x", "field Source must not be empty");
    check("npipe", "a", "/x", "mount type unknown");
    check("", "", "/x", "mount type unknown");
}

#[test]
fn a_path_of_a_volume_stays_in_it() {
    let check = |source: &str, subpath: &str, expected: Result<&str, &str>| {
        let options = VolumeOptions { subpath: subpath.to_owned(), ..VolumeOptions::default() };
        let mount = Mount {
            r#type: "volume".to_owned(),
            source: source.to_owned(),
            target: "/x".to_owned(),
            volume_options: Some(options),
            ..Mount::default()
        };
        let got = of_mount(&mount).map(|planned| planned.point.subpath);
        let got = got.as_deref().map_err(|text| text.split(": ").last().unwrap());
        assert_eq!(got, expected, "{subpath}");
    };
    check("vv", "a/../b", Ok("a/../b"));
    check("vv", "../a", Err("subpath must be a relative path within the volume"));
    check("vv", "a/../../b", Err("subpath must be a relative path within the volume"));
    check("vv", "/a", Err("subpath must be a relative path within the volume"));
    check("", "a", Err("must not set Subpath when using anonymous volumes"));
}

#[test]
fn folders_of_the_machine_keep_their_options() {
    let options = BindOptions {
        propagation: "rslave".to_owned(),
        non_recursive: true,
        create_mountpoint: true,
        ..BindOptions::default()
    };
    let mount = Mount {
        r#type: "bind".to_owned(),
        source: "/a/./b".to_owned(),
        target: "/x".to_owned(),
        read_only: true,
        bind_options: Some(options),
        ..Mount::default()
    };
    let point = of_mount(&mount).unwrap().point;
    assert_eq!((point.source.as_str(), point.propagation.as_str()), ("/a/b", "rslave"));
    assert_eq!((point.writable, point.non_recursive, point.make_source), (false, true, true));
}

#[test]
fn what_is_taken_from_others_may_be_read_only() {
    let check = |text: &str, expected: Result<(&str, bool), &str>| {
        let got = from(text).map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected, "{text}");
    };
    check("c", Ok(("c", false)));
    check("c:ro", Ok(("c", true)));
    check("c:rw,z", Ok(("c", false)));
    check("", Err("volumes-from specification cannot be an empty string"));
    check("c:foo", Err("invalid mode: foo"));
    check("c:nocopy", Err("invalid mode: nocopy"));
    check("c:rshared", Err("invalid mode: rshared"));
}
