//! `init` as PID 1 of new namespaces, with a small engine made for the purpose: what it holds survives the engine, and
//! its uplink keeps its address ([`uplink`]).
//!
//! Needs root and a cgroup2 mount; without them each test says so and passes. No VM, no network but its own.

// Helpers of tests are tests too, which clippy.toml's exception does not see.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod appliance;
mod engine;
mod uplink;

use appliance::{Appliance, Ended};
use std::io::{BufRead, Read, Write};

/// Not a test: the program that `init` starts as `engined` in the others, which is this very executable.
#[test]
fn engine_for_the_others() {
    if std::env::var_os(engine::MARK).is_some() {
        engine::run();
    }
}

#[test]
fn an_end_is_told_and_forgotten_when_acknowledged() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 exit 7");
    assert_eq!(appliance.ask("next"), "exited a1 exit-7");
    assert_eq!(appliance.ask("ack a1"), "ok");
    appliance.kill_engine();
    assert_eq!(appliance.ask("held"), "");
}

#[test]
fn the_end_of_who_was_reaped_before_it_was_registered_is_told() {
    let Some(appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch-anothers a1");
    assert_eq!(appliance.ask("next"), "exited a1 signal-9");
    assert_eq!(appliance.ask("ack a1"), "ok");
}

#[test]
fn processes_and_their_output_survive_the_engine() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 echo before; sleep 1; echo after; exit 3");
    appliance.ask("launch b2 sleep 1000");
    let first = appliance.engine_pid();
    appliance.kill_engine();
    assert_ne!(appliance.engine_pid(), first);
    assert_eq!(appliance.ask("held"), "a1:running:note-a1:1 b2:running:note-b2:1");
    assert_eq!(appliance.ask("output a1"), "before after", "the pipe was held, and nothing of it is lost");
    assert_eq!(appliance.ask("next"), "exited a1 exit-3");
}

#[test]
fn an_end_without_an_engine_is_replayed_in_every_life_until_it_is_acknowledged() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 sleep 0.3; exit 9");
    appliance.ask("launch b2 kill -KILL $$");
    assert_eq!(appliance.ask("next"), "exited b2 signal-9");
    appliance.stop_engine();
    std::thread::sleep(std::time::Duration::from_millis(600));
    appliance.kill_engine();
    assert_eq!(appliance.ask("held"), "a1:exit-9:note-a1:1 b2:signal-9:note-b2:1");
    appliance.kill_engine();
    assert_eq!(appliance.ask("held"), "a1:exit-9:note-a1:1 b2:signal-9:note-b2:1");
    appliance.ask("ack a1");
    appliance.kill_engine();
    assert_eq!(appliance.ask("held"), "b2:signal-9:note-b2:1");
}

#[test]
fn a_start_that_is_under_way_when_the_engine_dies_is_not_missed() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    // The child waits before it registers; the engine is killed meanwhile.
    appliance.tell("launch-slowly a1 sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(150));
    appliance.kill_engine();
    assert_eq!(appliance.ask("held"), "a1:running:note-a1:1");
}

#[test]
fn a_shed_descriptor_is_not_held_any_more() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 sleep 1000");
    appliance.ask("shed a1");
    appliance.kill_engine();
    assert_eq!(appliance.ask("held"), "a1:running:note-a1:0");
}

#[test]
fn what_is_kept_under_a_name_outlives_the_engine_until_it_is_dropped() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.ask("keep port/tcp/80 old");
    appliance.ask("keep port/tcp/80 new");
    appliance.ask("keep dns/1 lookup");
    appliance.ask("launch a1 sleep 1000");
    for _ in 0..2 {
        appliance.kill_engine();
        assert_eq!(appliance.ask("kept"), "dns/1 port/tcp/80");
        assert_eq!(appliance.ask("held"), "a1:running:note-a1:1");
    }
    assert_eq!(appliance.ask("output port/tcp/80"), "new");
    appliance.ask("drop port/tcp/80");
    appliance.ask("drop nothing/at/all");
    appliance.kill_engine();
    assert_eq!(appliance.ask("kept"), "dns/1");
    assert_eq!(appliance.ask("output dns/1"), "lookup");
}

#[test]
fn many_processes_come_back() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    assert_eq!(appliance.ask("launch-many 500"), "ok");
    appliance.kill_engine();
    assert_eq!(appliance.ask("count"), "500");
}

#[test]
fn a_client_that_connects_while_the_engine_is_away_is_served() {
    let Some(appliance) = Appliance::start(&[]) else { return };
    appliance.ask("crash-at-start 3");
    appliance.end_engine();
    let waiting = appliance.connect();
    assert_eq!(appliance.ask_on(waiting, "held"), "");
    assert_eq!(appliance.status().1, 5, "three of them died at once");
}

#[test]
fn an_engine_that_cannot_hear_is_replaced() {
    let Some(appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 sleep 1000");
    appliance.ask("close-keeper");
    appliance.wait_for_start(2);
    assert_eq!(appliance.ask("held"), "a1:running:note-a1:1");
}

/// `engine BYTES` and the bytes.
fn engine(program: &[u8]) -> Vec<u8> {
    [format!("engine {}\n", program.len()).as_bytes(), program].concat()
}

#[test]
fn an_engine_from_the_host_that_cannot_live_gives_way_to_the_images_own() {
    let Some(appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 sleep 1000");
    let program = std::fs::read("/bin/false").unwrap();
    assert_eq!(appliance.control_bytes(&engine(&program)), "ok\n");
    // The upgrade's own start, and the next one.
    appliance.wait_for_start(3);
    assert_eq!(appliance.ask("held"), "a1:running:note-a1:1");
    assert!(appliance.control("status").ends_with(" image writable\n"));
    // Not made for this kernel: the start itself fails.
    assert_eq!(appliance.control_bytes(&engine(b"\x7fELF and nothing else")), "ok\n");
    appliance.wait_for_start(5);
    assert_eq!(appliance.ask("held"), "a1:running:note-a1:1");
    assert!(appliance.console().contains("back to the image's own"), "{}", appliance.console());
}

#[test]
fn what_is_no_engine_changes_nothing() {
    let Some(appliance) = Appliance::start(&[]) else { return };
    let before = appliance.status();
    let refused = |why: &str| format!("error the engine is not taken: {why}\n");
    assert_eq!(appliance.control_bytes(&engine(b"#!/bin/sh\n")), refused("not an executable"));
    let size = refused("it has from 1 to 67108864 bytes");
    assert_eq!(appliance.control("engine 0"), size);
    assert_eq!(appliance.control("engine 67108865"), size);
    // One whose sender leaves half-way leaves nothing.
    let mut torn = appliance.control_socket();
    torn.write_all(b"1 engine 1000000\n\x7fELF").unwrap();
    drop(torn);
    assert_eq!(appliance.status(), before);
}

#[test]
fn power_off_asks_the_engine_and_ends_all() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.ask("launch a1 trap 'echo bye' TERM; sleep 1000");
    assert_eq!(appliance.control("power-off 100"), "ok\n");
    assert_eq!(appliance.wait(), Ended::PoweredOff);
    // A little of it is for writing down how they ended.
    assert!(appliance.console().contains("fake engine: told to stop within 98 s"), "{}", appliance.console());
}

#[test]
fn a_second_wish_brings_the_end_nearer() {
    for second in ["the line", "a signal"] {
        let Some(mut appliance) = Appliance::start(&[]) else { return };
        // An engine that does not answer has all the time that it was given.
        appliance.stop_engine();
        assert_eq!(appliance.control("power-off 3600"), "ok\n");
        match second {
            "the line" => assert_eq!(appliance.control("power-off 1"), "ok\n"),
            _ => appliance.signal_init("TERM"),
        }
        assert_eq!(appliance.wait(), Ended::PoweredOff, "by {second}");
    }
}

#[test]
fn reboot_and_a_signal_work_too() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    assert_eq!(appliance.control("reboot"), "ok\n");
    assert_eq!(appliance.wait(), Ended::Restarted);
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    appliance.signal_init("TERM");
    assert_eq!(appliance.wait(), Ended::PoweredOff);
}

#[test]
fn the_host_hears_of_the_engines_death_on_its_long_line() {
    let Some(mut appliance) = Appliance::start(&[]) else { return };
    let mut long = appliance.greeted();
    appliance.kill_engine();
    let mut event = String::new();
    long.read_line(&mut event).unwrap();
    assert_eq!(event, "event engine-died signal 9\n");
}

#[test]
fn a_host_of_the_first_version_is_served() {
    let Some(appliance) = Appliance::start(&[]) else { return };
    let mut stream = appliance.control_socket();
    stream.write_all(b"status\nclock 1\npower-off\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("status ") && lines[0].ends_with(" image"), "{text}");
    assert_eq!(lines[1..], ["error the clock is the host's own", "ok"]);
}

#[test]
fn a_console_that_nobody_reads_holds_nothing_up() {
    let Some((appliance, _console)) = Appliance::start_unheard() else { return };
    // Each is a line on the console.
    for _ in 0..200 {
        appliance.ask("ack nobody");
    }
    assert_eq!(appliance.status().1, 1);
}

#[test]
fn an_engine_waits_for_its_configuration_and_every_engine_has_it() {
    let Some(appliance) = Appliance::start_unchecked(&["config=line"]) else { return };
    let mut appliance = appliance.with_init();
    assert_eq!(appliance.status(), (0, 0));
    let mut long = appliance.greeted();
    // One that is cut short is none.
    appliance.control_socket().write_all(b"1 config 100\n{").unwrap();
    long.get_mut().write_all(b"1 config 13\n{\"version\":1}2 status\n").unwrap();
    let mut answers = String::new();
    long.read_line(&mut answers).unwrap();
    assert_eq!(answers, "1 ok\n");
    assert_eq!(appliance.ask("config"), "{\"version\":1}");
    assert_eq!(
        appliance.control_bytes(b"config 13\n{\"version\":1}"),
        "ok\n",
        "it was not heard that it arrived"
    );
    let refused = "error the configuration is not taken: this boot has another already\n";
    assert_eq!(appliance.control_bytes(b"config 13\n{\"version\":2}"), refused);
    appliance.kill_engine();
    assert_eq!(appliance.ask("config"), "{\"version\":1}");
}

#[test]
fn control_lines_are_answered() {
    let Some(appliance) = Appliance::start(&["hostname=boat"]) else { return };
    let (pid, starts) = appliance.status();
    assert_eq!(starts, 1);
    assert!(pid > 1);
    assert_eq!(appliance.control("clock 1"), "error the clock is the host's own\n");
    assert_eq!(appliance.control("nonsense"), "error unknown request\n");
    assert_eq!(appliance.ask("hostname"), "boat");
}

#[test]
fn what_is_wrong_is_said_and_the_boot_ends() {
    let Some(mut appliance) = Appliance::start_unchecked(&["on-failure=sometimes"]) else { return };
    assert_eq!(appliance.wait(), Ended::Exit(1));
    let line = "pinnace-init: gave up: boot failed: setting on-failure=sometimes is not valid: expected poweroff or reboot";
    assert!(appliance.console().contains(line), "{}", appliance.console());
    let Some(mut appliance) = Appliance::start_without("proc") else { return };
    assert_eq!(appliance.wait(), Ended::Exit(1));
    let line = "pinnace-init: gave up: boot failed: phase mounts failed: cannot mount /proc: ";
    assert!(appliance.console().contains(line), "{}", appliance.console());
}
