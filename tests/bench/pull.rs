//! A pull of a Debian root file system from a registry on this machine, onto an ext4 with a journal; beside dockerd.

use crate::peer::Peer;
use crate::sample::{Sample, millis};
use crate::{Facts, Row, rounds, say};
use pinnace_tests::images::Image;
use pinnace_tests::{Appliance, Backend, Ext4};

const DISK_MIB: u32 = 8192;

/// The rows of the table.
pub fn rows(facts: &mut Facts) -> Vec<Row> {
    let disk = Ext4::new(DISK_MIB);
    let app = Appliance::boot(Backend::Namespace, disk.path());
    let peer = Peer::start();
    let (mut ours, mut theirs) = (Sample::default(), Sample::default());
    for round in 1..=rounds() {
        say(&format!("pulls, round {round} of {}", rounds()));
        pull(&app, &mut ours);
        if let Some(peer) = &peer {
            pull(&peer.app, &mut theirs);
        }
    }
    let what = "pull of Debian (five layers), gzip";
    facts.ours("pull of Debian, s", millis(ours.median()) / 1e3);
    let Some(peer) = peer else {
        return vec![Row::new(what, "", ours.tell(), "pending: no dockerd".to_owned())];
    };
    facts.theirs("pull of Debian, s", &peer.name(), millis(theirs.median()) / 1e3);
    let ratio = format!("{:.2}", millis(ours.median()) / millis(theirs.median()));
    let what = format!("{what}, divided by {}", peer.name());
    vec![Row::new(&what, "", ratio, format!("{} / {}", ours.tell(), theirs.tell()))]
}

/// Pulls and removes it.
fn pull(app: &Appliance, sample: &mut Sample) {
    let reference = app.registry().serves(Image::Debian);
    sample.measure(1, || {
        drop(app.docker_program(["pull", "--quiet", &reference]).within(300).run().succeeds())
    });
    app.docker(["rmi", &reference]).succeeds();
}
