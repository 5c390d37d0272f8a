//! The table against a model: whatever happens in whatever order, no end is lost and none is told twice.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn key(number: u8) -> Key {
    Key([number; 32])
}

fn name(number: u8) -> Name {
    Name::new(format!("name/{number}")).unwrap()
}

fn exit(status: i32) -> Exit {
    Exit { status, user_micros: 0, system_micros: 0, at_nanos: 0 }
}

fn all(table: &mut Table<u8>) -> Vec<FromKeeper> {
    let mut got = Vec::new();
    while let Some((message, _)) = table.next() {
        got.push(message);
        table.sent();
    }
    got
}

#[test]
fn an_engine_hears_of_its_own_process_once() {
    let mut table = Table::default();
    table.hello();
    assert_eq!(all(&mut table), [FromKeeper::ReplayEnd]);
    table.launched(key(1), 10, b"n".to_vec(), vec![7]).unwrap();
    assert_eq!(all(&mut table), []);
    assert!(table.ended(10, exit(3)));
    assert_eq!(all(&mut table), [FromKeeper::Exited { key: key(1), pid: 10, exit: exit(3) }]);
    assert_eq!(table.acknowledged(key(1)), Ok(vec![7]));
    assert_eq!(table.acknowledged(key(1)), Err(Refused::Unknown { key: key(1) }));
}

#[test]
fn the_next_engine_gets_all_with_descriptors() {
    let mut table = Table::default();
    table.hello();
    all(&mut table);
    table.launched(key(1), 10, b"one".to_vec(), vec![7, 8]).unwrap();
    table.launched(key(2), 11, vec![], vec![]).unwrap();
    table.engine_gone();
    assert!(table.ended(11, exit(9)));
    assert_eq!(table.next(), None);
    table.hello();
    let held = FromKeeper::Held { key: key(1), pid: 10, exit: None, note: b"one".to_vec() };
    assert_eq!(table.next(), Some((held, &[7, 8][..])));
    table.sent();
    assert!(table.ended(10, exit(1)));
    assert_eq!(
        all(&mut table),
        [
            FromKeeper::Held { key: key(2), pid: 11, exit: Some(exit(9)), note: vec![] },
            FromKeeper::ReplayEnd,
            FromKeeper::Exited { key: key(1), pid: 10, exit: exit(1) },
        ]
    );
}

#[test]
fn mistakes_of_the_engine_change_nothing() {
    let mut table = Table::default();
    table.launched(key(1), 10, vec![], vec![1]).unwrap();
    assert_eq!(table.launched(key(1), 11, vec![], vec![2]), Err(Refused::Taken { key: key(1), pid: 10 }));
    assert_eq!(table.acknowledged(key(1)), Err(Refused::Running { key: key(1), pid: 10 }));
    assert!(!table.ended(11, exit(0)), "an unregistered child is only reaped");
    assert_eq!(table.running(), 1);
}

#[test]
fn what_is_shed_is_not_held_for_the_next_engine() {
    let mut table = Table::default();
    table.launched(key(1), 10, vec![], vec![7, 8, 9]).unwrap();
    assert_eq!(table.shed(key(1), 2), Ok(vec![9]));
    assert_eq!(table.shed(key(1), 5), Ok(vec![]), "there are fewer");
    assert_eq!(table.shed(key(2), 0), Err(Refused::Unknown { key: key(2) }));
    table.hello();
    assert_eq!(table.next().map(|(_, fds)| fds), Some(&[7, 8][..]));
}

#[test]
fn there_are_only_so_many_names() {
    let mut table = Table::default();
    let name = |number: usize| Name::new(format!("n{number}")).unwrap();
    (0..NAMES_MAX).for_each(|number| assert_eq!(table.keep(name(number), vec![1]), Ok(vec![])));
    let more = name(NAMES_MAX);
    assert_eq!(table.keep(more.clone(), vec![2]), Err(Refused::Full { name: more }));
    assert_eq!(table.keep(name(0), vec![3]), Ok(vec![1]), "another in its place");
}

#[derive(Debug, Clone)]
enum Step {
    Launch,
    End(prop::sample::Index),
    Ack(prop::sample::Index),
    Deliver(u8),
    Gone,
    Hello,
    Keep(u8, u8),
    Drop(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Launch),
        4 => any::<prop::sample::Index>().prop_map(Step::End),
        3 => any::<prop::sample::Index>().prop_map(Step::Ack),
        5 => (0u8..5).prop_map(Step::Deliver),
        1 => Just(Step::Gone),
        2 => Just(Step::Hello),
        2 => (0u8..4, any::<u8>()).prop_map(|(name, fd)| Step::Keep(name, fd)),
        1 => (0u8..4).prop_map(Step::Drop),
    ]
}

/// What the world knows, kept apart from the table.
#[derive(Default)]
struct World {
    running: BTreeMap<u32, Key>,
    /// Ended, not acknowledged.
    owed: BTreeMap<Key, Exit>,
    /// Told in this life.
    told: BTreeSet<Key>,
    /// Known to the engine of this life.
    known: BTreeSet<Key>,
    kept: BTreeMap<Name, u8>,
    /// Told in this life.
    names_known: BTreeSet<Name>,
    alive: bool,
    replayed: bool,
    count: u8,
}

impl World {
    fn deliver(&mut self, table: &mut Table<u8>) -> bool {
        let Some((message, fds)) = table.next() else { return false };
        assert!(self.alive, "nothing is said to a dead engine");
        match message {
            FromKeeper::Held { key, exit, .. } => {
                assert!(!self.replayed && self.known.insert(key), "held once, before the end of the replay");
                assert_eq!(fds, [key.0[0]]);
                assert_eq!(exit, self.owed.get(&key).copied());
                assert!(exit.is_none() || self.told.insert(key), "an end is told once a life");
            }
            FromKeeper::ReplayEnd => assert!(!std::mem::replace(&mut self.replayed, true)),
            FromKeeper::Exited { key, exit, .. } => {
                assert!(self.replayed && self.known.contains(&key));
                assert_eq!(Some(&exit), self.owed.get(&key));
                assert!(self.told.insert(key), "an end is told once a life");
            }
            FromKeeper::Kept { name } => {
                assert!(!self.replayed && self.names_known.insert(name.clone()));
                assert_eq!(Some(fds), self.kept.get(&name).map(std::slice::from_ref));
            }
            FromKeeper::PowerOff { .. } => panic!("the table does not power off"),
        }
        table.sent();
        true
    }

    fn new_life(&mut self, alive: bool) {
        self.told.clear();
        self.known.clear();
        self.names_known.clear();
        (self.alive, self.replayed) = (alive, false);
    }

    fn step(&mut self, table: &mut Table<u8>, step: &Step) {
        match step {
            Step::Launch if self.count < u8::MAX => {
                self.count += 1;
                let (name, pid) = (key(self.count), u32::from(self.count) + 100);
                table.launched(name, pid, vec![], vec![self.count]).unwrap();
                self.running.insert(pid, name);
                if self.alive {
                    self.known.insert(name);
                }
            }
            Step::End(index) if !self.running.is_empty() => {
                let pid = *index.get(&self.running.keys().copied().collect::<Vec<_>>());
                let key = self.running.remove(&pid).unwrap();
                self.owed.insert(key, exit(pid as i32));
                assert!(table.ended(pid, exit(pid as i32)));
            }
            Step::Ack(index) if !self.told.is_empty() => {
                let key = *index.get(&self.told.iter().copied().collect::<Vec<_>>());
                self.told.remove(&key);
                self.owed.remove(&key);
                assert_eq!(table.acknowledged(key).unwrap(), [key.0[0]]);
            }
            Step::Deliver(count) => (0..*count).for_each(|_| {
                self.deliver(table);
            }),
            Step::Gone => {
                table.engine_gone();
                self.new_life(false);
            }
            Step::Hello if !self.alive => {
                table.hello();
                self.new_life(true);
            }
            Step::Keep(number, fd) => {
                let old = self.kept.insert(name(*number), *fd);
                assert_eq!(table.keep(name(*number), vec![*fd]), Ok(old.into_iter().collect()));
            }
            Step::Drop(number) => {
                let dropped = table.drop_kept(&name(*number)).ok();
                assert_eq!(dropped, self.kept.remove(&name(*number)).map(|fd| vec![fd]));
                self.names_known.remove(&name(*number));
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn no_end_is_lost_and_none_told_twice(steps in prop::collection::vec(step(), 0..200)) {
        let (mut table, mut world) = (Table::default(), World::default());
        for step in &steps {
            world.step(&mut table, step);
        }
        if !world.alive {
            world.step(&mut table, &Step::Hello);
        }
        while world.deliver(&mut table) {}
        prop_assert!(world.replayed);
        prop_assert_eq!(world.told, world.owed.keys().copied().collect::<BTreeSet<_>>());
        prop_assert_eq!(table.running(), world.running.len());
        for (pid, key) in world.running {
            prop_assert_eq!(table.acknowledged(key), Err(Refused::Running { key, pid }));
        }
    }
}
