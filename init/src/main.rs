//! PID 1. First the boot, a list of phases ([`boot`]); then the loop ([`serve`]) in which this process is only the
//! keeper: it holds, the engine decides.
//!
//! The same program is process 1 of containers that ask for one ([`container`]).
//!
//! Deliberately not here: async, JSON, HTTP, Docker's words, threads, a panic that leaves the machine hanging.

mod boot;
mod clock;
mod container;
mod control;
mod keeper;
mod messages;
mod net;
mod power;
mod serve;
mod upload;

use std::time::Instant;

use contract::console::FIRST_INSTRUCTION;
use contract::settings::{Backend, Settings};

use boot::Machine;
use boot::modules::{self, Late};
use keeper::{Keeper, Starter};
use messages::{chain, raw, say};
use net::Uplink;
use serve::Server;

fn main() {
    let started = Instant::now();
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = if words.is_empty() { String::new() } else { words.remove(0) };
    if container::is_asked(&program) {
        container::run(&program, &words);
    }
    if words == [modules::LATE] {
        return modules::helper();
    }
    if std::process::id() != 1 {
        say!("this is PID 1 of the appliance: start it with `pinnace up`");
        std::process::exit(2);
    }
    raw(format!("{FIRST_INSTRUCTION}\n").as_bytes());
    std::panic::set_hook(Box::new(|panic| {
        say!("{panic}");
        power::give_up()
    }));
    let settings = settings(&words);
    power::set_policy(settings.backend, settings.on_failure);
    let mut machine = Machine { settings, rootfs: None, sockets: None };
    let done = boot::boot(&mut machine).unwrap_or_else(|failed| {
        say!("boot failed: {}", chain(&failed));
        power::give_up()
    });
    let backend = machine.settings.backend;
    let action = match server(&mut machine, started) {
        Ok(server) => server.run(),
        Err(error) => {
            say!("boot failed: {error}");
            power::give_up()
        }
    };
    power::down(action, backend, || done.undo(&mut machine))
}

/// A wrong setting is a failed boot; a word that nobody knows is told, since the kernel hands on all it does not
/// know itself.
fn settings(words: &[String]) -> Settings {
    let words = || words.iter().map(String::as_str);
    match Settings::parse(words()) {
        Ok((settings, unknown)) => {
            unknown.iter().for_each(|word| say!("unknown setting {word}"));
            settings
        }
        Err(error) => {
            // What is right of it still says where this is and what to do about it.
            let right = words().filter(|word| Settings::parse([*word]).is_ok());
            let (settings, _) = Settings::parse(right).unwrap_or_default();
            power::set_policy(settings.backend, settings.on_failure);
            say!("boot failed: {error}");
            power::give_up()
        }
    }
}

/// Starts the engine first, then all that need not be there before it.
fn server(machine: &mut Machine, started: Instant) -> std::io::Result<Server> {
    let signals = serve::signals()?;
    let sockets = machine.sockets.take().expect("the phase that makes the sockets is done");
    let now = Instant::now();
    let mut keeper = Keeper::new(Starter::new(sockets, machine.settings.words()), now);
    keeper.tick(now, true);
    let boot_time = started.elapsed();
    say!("the engine is started after {} ms", boot_time.as_millis());
    let mut uplink = Uplink::new(&machine.settings);
    uplink.look();
    let modules = match machine.settings.backend {
        Backend::Vm => Late::new(machine, now),
        Backend::Namespace => {
            modules::ready();
            Late::Done
        }
    };
    Ok(Server { backend: machine.settings.backend, signals, keeper, uplink, modules, boot_time })
}
