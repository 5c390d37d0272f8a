//! A conversation with a server, with time as an argument.

use super::super::wire::tests::packet;
use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 2, 2];
const ADDRESS: [u8; 4] = [10, 0, 2, 15];

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn answer(client: &Client, kind: u8, lease: u32) -> Vec<u8> {
    let lease = lease.to_be_bytes();
    let options = [(53, &[kind][..]), (54, &SERVER), (1, &[255, 255, 255, 0]), (3, &SERVER), (51, &lease)];
    packet(client.transaction, MAC, ADDRESS, &options)
}

/// The kind byte (option 53) and target of the only act, a question.
fn asked(acts: &[Act]) -> (u8, Option<Ipv4Addr>) {
    match acts {
        [Act::Send { bytes, to }] => (bytes[242], *to),
        other => panic!("not one question: {other:?}"),
    }
}

fn bound(start: Instant) -> Client {
    let mut client = Client::new(MAC, 1, start);
    assert_eq!(asked(&client.tick(start)), (1, None));
    let offer = answer(&client, 2, 3600);
    assert_eq!(asked(&client.receive(&offer, start)), (3, None));
    let ack = answer(&client, 5, 3600);
    match &client.receive(&ack, start)[..] {
        [Act::Apply(lease)] => assert_eq!((lease.address.octets(), lease.prefix), (ADDRESS, 24)),
        other => panic!("no lease: {other:?}"),
    }
    client
}

#[test]
fn questions_are_repeated_more_and_more_slowly() {
    let start = Instant::now();
    let mut client = Client::new(MAC, 1, start);
    let (mut now, mut waits) = (start, Vec::new());
    for _ in 0..8 {
        assert_eq!(asked(&client.tick(now)), (1, None));
        assert_eq!(client.tick(now), [], "not before it is due");
        waits.push((client.deadline() - now).as_secs());
        now = client.deadline();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64]);
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_any_then_lost() {
    let start = Instant::now();
    let mut client = bound(start);
    assert_eq!(client.deadline(), after(start, 1800));
    assert_eq!(asked(&client.tick(after(start, 1800))), (3, Some(SERVER.into())));
    let ack = answer(&client, 5, 3600);
    assert_eq!(client.receive(&ack, after(start, 1801)), [], "the same lease needs no work");
    let start = after(start, 1800);
    assert_eq!(client.deadline(), after(start, 1800));
    assert_eq!(asked(&client.tick(after(start, 3150))), (3, None));
    let acts = client.tick(after(start, 3600));
    assert!(matches!(acts[..], [Act::Lost(_), Act::Send { .. }]), "{acts:?}");
}

#[test]
fn a_changed_lease_replaces_the_old() {
    let start = Instant::now();
    let mut client = bound(start);
    client.tick(after(start, 1800));
    let options = [(53, &[5u8][..]), (54, &SERVER), (1, &[255, 255, 0, 0]), (51, &[0, 0, 14, 16])];
    let ack = packet(client.transaction, MAC, ADDRESS, &options);
    let acts = client.receive(&ack, after(start, 1801));
    assert!(matches!(&acts[..], [Act::Lost(old), Act::Apply(new)] if old.prefix == 24 && new.prefix == 16));
}

#[test]
fn a_refusal_begins_anew_and_strangers_are_ignored() {
    let start = Instant::now();
    let mut client = bound(start);
    let ack = answer(&client, 5, 60);
    assert_eq!(client.receive(&ack, start), [], "nobody asked");
    client.tick(after(start, 1800));
    let mut stranger = answer(&client, 6, 0);
    stranger[28] ^= 1;
    assert_eq!(client.receive(&stranger, after(start, 1800)), []);
    let nak = answer(&client, 6, 0);
    let acts = client.receive(&nak, after(start, 1800));
    assert!(matches!(&acts[..], [Act::Lost(_), Act::Send { bytes, .. }] if bytes[242] == 1), "{acts:?}");
}

#[test]
fn an_offer_without_ack_is_given_up() {
    let start = Instant::now();
    let mut client = Client::new(MAC, 1, start);
    client.tick(start);
    let offer = answer(&client, 2, 3600);
    client.receive(&offer, start);
    let kinds: Vec<u8> = (0..4).map(|_| asked(&client.tick(client.deadline())).0).collect();
    assert_eq!(kinds, [3, 3, 3, 1]);
    client.receive(&offer, start);
    assert!(matches!(client.state, State::Selecting), "an offer of the old exchange counts no more");
}
