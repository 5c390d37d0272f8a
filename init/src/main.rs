//! PID 1. First the boot, a list of phases ([`boot`]); then the loop ([`serve`]) in which this process is only the
//! keeper: it holds, the engine decides.
//!
//! The same program is process 1 of containers that ask for one ([`container`]).
//!
//! Deliberately not here: async, JSON, HTTP, Docker's words, threads, a panic that leaves the machine hanging.

mod body;
mod boot;
mod carrier;
mod clock;
mod config;
mod container;
mod damage;
mod keeper;
mod line;
mod messages;
mod net;
mod power;
mod serve;
mod services;
mod upload;

use std::time::Instant;

use contract::console::FIRST_INSTRUCTION;
use contract::settings::{Backend, Settings};

use boot::Machine;
use boot::modules::{self, Late};
use damage::Damage;
use keeper::Keeper;
use messages::{chain, raw, say};
use net::Uplink;
use serve::Server;
use services::{Given, Services};

fn main() {
    let started = Instant::now();
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = if words.is_empty() { String::new() } else { words.remove(0) };
    if container::is_asked(&program) {
        container::run(&program, &words);
    }
    if carrier::is_asked(&program) {
        carrier::run();
    }
    if words == [modules::LATE] {
        return modules::helper();
    }
    if std::process::id() != 1 {
        say!("this is PID 1 of the appliance: start it with `pinnace up`");
        std::process::exit(2);
    }
    raw(format!("{FIRST_INSTRUCTION}\n").as_bytes());
    std::panic::set_hook(Box::new(|panic| power::give_up(&panic.to_string())));
    let settings = settings(&words);
    power::set_policy(settings.backend, settings.on_failure);
    let mut machine = Machine { settings, rootfs: None, sockets: None };
    let done = boot::boot(&mut machine)
        .unwrap_or_else(|failed| power::give_up(&format!("boot failed: {}", chain(&failed))));
    let backend = machine.settings.backend;
    let action = match server(&mut machine, started) {
        Ok(server) => server.run(),
        Err(error) => power::give_up(&format!("boot failed: {error}")),
    };
    power::down(action, backend, || done.undo(&mut machine))
}

/// A wrong setting is a failed boot; a word that nobody knows is told, since the kernel hands on all it does not
/// know itself.
fn settings(words: &[String]) -> Settings {
    let words = || words.iter().map(String::as_str);
    match Settings::parse(words()) {
        Ok((settings, unknown)) => {
            // A host of an older release sends secrets as words: the console is not for them.
            let key = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
            unknown.iter().map(key).for_each(|key| say!("unknown setting {key}"));
            settings
        }
        Err(error) => {
            // What is right of it still says where this is and what to do about it.
            let right = words().filter(|word| Settings::parse([*word]).is_ok());
            let (settings, _) = Settings::parse(right).unwrap_or_default();
            power::set_policy(settings.backend, settings.on_failure);
            power::give_up(&format!("boot failed: {error}"))
        }
    }
}

/// Starts the engine first, unless its configuration is still to come, then all that need not be there before it.
fn server(machine: &mut Machine, started: Instant) -> std::io::Result<Server> {
    let signals = serve::signals()?;
    let sockets = machine.sockets.take().expect("the phase that makes the sockets is done");
    let now = Instant::now();
    let given = Given::new(sockets, &machine.settings);
    let mut keeper = Keeper::new(Services::new(given, now));
    keeper.tick(now, true);
    let boot_time = started.elapsed();
    say!("booted after {} ms", boot_time.as_millis());
    let mut uplink = Uplink::new(&machine.settings);
    uplink.look();
    let modules = match machine.settings.backend {
        Backend::Vm => Late::new(machine, now),
        Backend::Namespace => {
            modules::ready();
            Late::Done
        }
    };
    let damage = (machine.settings.backend == Backend::Vm).then(Damage::watch).flatten();
    Ok(Server { backend: machine.settings.backend, signals, keeper, uplink, damage, modules, boot_time })
}
