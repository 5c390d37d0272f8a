//! A conversation with a server, with time as an argument.

use super::super::wire::tests::packet;
use super::*;
use proptest::prelude::*;

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 2, 2];
const ADDRESS: [u8; 4] = [10, 0, 2, 15];
const START: Moment = Duration::from_secs(1000);

fn after(seconds: u64) -> Moment {
    START + Duration::from_secs(seconds)
}

fn answer_with(client: &Client, kind: u8, lease: u32, more: &[(u8, &[u8])]) -> Vec<u8> {
    let (kind, lease) = ([kind], lease.to_be_bytes());
    let mut options =
        vec![(53, &kind as &[u8]), (54, &SERVER), (1, &[255, 255, 255, 0]), (3, &SERVER), (51, &lease)];
    options.extend(more);
    packet(client.transaction, MAC, ADDRESS, &options)
}

fn answer(client: &Client, kind: u8, lease: u32) -> Vec<u8> {
    answer_with(client, kind, lease, &[])
}

/// The kind byte (option 53) and target of the only act, a question.
fn asked(acts: &[Act]) -> (u8, Option<Ipv4Addr>) {
    match acts {
        [Act::Send { bytes, to }] => (bytes[242], *to),
        other => panic!("not one question: {other:?}"),
    }
}

fn bound_for(lease: u32) -> Client {
    let mut client = Client::new(MAC, 1, START);
    assert_eq!(asked(&client.tick(START)), (1, None));
    let offer = answer(&client, 2, lease);
    assert_eq!(asked(&client.receive(&offer, START)), (3, None));
    let ack = answer(&client, 5, lease);
    match &client.receive(&ack, START)[..] {
        [Act::Apply { before: None, lease }] => {
            assert_eq!((lease.address.octets(), lease.prefix), (ADDRESS, 24))
        }
        other => panic!("no lease: {other:?}"),
    }
    client
}

fn bound() -> Client {
    bound_for(3600)
}

#[test]
fn questions_are_repeated_more_and_more_slowly_and_not_in_step_with_others() {
    let waits = |seed| {
        let mut client = Client::new(MAC, seed, START);
        let (mut now, mut waits) = (START, Vec::new());
        for _ in 0..8 {
            assert_eq!(asked(&client.tick(now)), (1, None));
            assert_eq!(client.tick(now), [], "not before it is due");
            waits.push(client.deadline() - now);
            now = client.deadline();
        }
        waits
    };
    for (wait, want) in waits(1).into_iter().zip([1u32, 2, 4, 8, 16, 32, 64, 64]) {
        let want = FIRST_WAIT * want;
        assert!(want * 3 / 4 <= wait && wait <= want * 5 / 4, "{wait:?} for {want:?}");
    }
    assert_ne!(waits(1), waits(3));
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_any_then_lost() {
    let mut client = bound();
    assert_eq!(client.deadline(), after(1800));
    assert_eq!(asked(&client.tick(after(1800))), (3, Some(SERVER.into())));
    let ack = answer(&client, 5, 3600);
    assert_eq!(client.receive(&ack, after(1801)), [], "the same lease needs no work");
    assert_eq!(client.deadline(), after(1800 + 1800));
    assert_eq!(asked(&client.tick(after(1800 + 3150))), (3, None));
    let acts = client.tick(after(1800 + 3600));
    assert!(matches!(acts[..], [Act::Lost(_), Act::Send { .. }]), "{acts:?}");
}

#[test]
fn a_renewal_with_other_times_takes_nothing_away() {
    let mut client = bound();
    client.tick(after(1800));
    let ack = answer_with(&client, 5, 3600, &[(58, &[0, 0, 6, 0]), (59, &[0, 0, 12, 0])]);
    assert_eq!(client.receive(&ack, after(1800)), []);
    assert_eq!(client.deadline(), after(1800 + 0x600));
}

#[test]
fn a_changed_lease_is_told_with_the_old() {
    let mut client = bound();
    client.tick(after(1800));
    let ack = answer_with(&client, 5, 3600, &[(6, &[1, 1, 1, 1])]);
    let acts = client.receive(&ack, after(1801));
    let [Act::Apply { before: Some(old), lease: new }] = &acts[..] else { panic!("{acts:?}") };
    assert_eq!((old.options.dns.len(), new.options.dns.len()), (0, 1));
}

#[test]
fn each_renewal_is_an_exchange_of_its_own() {
    let mut client = bound();
    let first = answer(&client, 5, 3600);
    client.tick(after(1800));
    assert_eq!(client.receive(&first, after(1800)), [], "the answer of an hour ago");
    assert_eq!(client.tick(after(1800)), [], "it still waits for its own");
    let renewing = client.transaction;
    client.tick(client.deadline());
    assert_eq!(client.transaction, renewing, "the same question again");
    client.tick(after(3150));
    assert_ne!(client.transaction, renewing, "another question, to everybody");
}

#[test]
fn a_short_lease_is_asked_for_in_time_and_not_used_longer() {
    let mut client = bound_for(32);
    let mut asked_at = Vec::new();
    let lost = loop {
        let now = client.deadline();
        match &client.tick(now)[..] {
            [Act::Send { to, .. }] => asked_at.push(((now - START).as_secs_f32(), to.is_some())),
            [Act::Lost(_), Act::Send { .. }] => break now,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lost, after(32));
    let (own, all): (Vec<_>, Vec<_>) = asked_at.iter().copied().partition(|(_, own)| *own);
    assert!(own.len() >= 3 && all.len() >= 2, "{asked_at:?}");
    assert!(asked_at.len() < 12, "{asked_at:?}");
}

#[test]
fn a_carrier_that_comes_back_leads_to_a_question() {
    // Nobody answered, so the next question is far away.
    let mut client = Client::new(MAC, 1, START);
    (0..7).for_each(|_| drop(client.tick(client.deadline())));
    let now = client.deadline() - Duration::from_secs(30);
    client.look_again(now);
    assert_eq!(asked(&client.tick(now)), (1, None));
    assert!(client.deadline() < now + Duration::from_secs(2));
    // One that has an address asks everybody whether it may keep it, and keeps it meanwhile.
    let mut client = bound();
    client.look_again(after(100));
    assert_eq!(asked(&client.tick(after(100))), (3, None));
    let ack = answer(&client, 5, 3600);
    assert_eq!(client.receive(&ack, after(100)), []);
    assert_eq!(client.deadline(), after(1900));
    // In another network it may not.
    client.look_again(after(200));
    client.tick(after(200));
    let nak = answer(&client, 6, 0);
    let acts = client.receive(&nak, after(200));
    assert!(matches!(&acts[..], [Act::Lost(_), Act::Send { bytes, .. }] if bytes[242] == 1), "{acts:?}");
}

#[test]
fn a_refusal_begins_anew_and_strangers_are_ignored() {
    let mut client = bound();
    let ack = answer(&client, 5, 60);
    assert_eq!(client.receive(&ack, START), [], "nobody asked");
    client.tick(after(1800));
    let mut stranger = answer(&client, 6, 0);
    stranger[28] ^= 1;
    assert_eq!(client.receive(&stranger, after(1800)), []);
    let nak = answer(&client, 6, 0);
    let acts = client.receive(&nak, after(1800));
    assert!(matches!(&acts[..], [Act::Lost(_), Act::Send { bytes, .. }] if bytes[242] == 1), "{acts:?}");
}

#[test]
fn an_offer_without_ack_is_given_up() {
    let mut client = Client::new(MAC, 1, START);
    client.tick(START);
    let offer = answer(&client, 2, 3600);
    client.receive(&offer, START);
    let kinds: Vec<u8> = (0..4).map(|_| asked(&client.tick(client.deadline())).0).collect();
    assert_eq!(kinds, [3, 3, 3, 1]);
    client.receive(&offer, START);
    assert!(matches!(client.state, State::Selecting), "an offer of the old exchange counts no more");
}

proptest! {
    /// Whatever times a server names, the address is never used past them, and no question comes without a pause.
    #[test]
    fn times_are_kept(lease in 1u32.., t1 in any::<u32>(), t2 in any::<u32>()) {
        let mut client = Client::new(MAC, 1, START);
        client.tick(START);
        let offer = answer(&client, 2, lease);
        client.receive(&offer, START);
        let ack = answer_with(&client, 5, lease, &[(58, &t1.to_be_bytes()), (59, &t2.to_be_bytes())]);
        client.receive(&ack, START);
        let mut now = START;
        for _ in 0..200 {
            prop_assert!(client.deadline() >= now);
            now = client.deadline();
            if let [Act::Lost(_), _] = client.tick(now)[..] {
                prop_assert!(now <= after(lease.clamp(4, FOREVER).into()));
                return Ok(());
            }
        }
        prop_assert!(false, "never over");
    }
}
