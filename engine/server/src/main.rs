//! `engined`: the Docker Engine API on the sockets that PID 1 listens on.
//!
//! This room routes, verifies and converts; it decides nothing. What a request means is `core`'s to say, how it
//! is spoken is said here: `routes` has a handler for each endpoint, `wire` the JSON, `reply` the one map from
//! errors to statuses.

#![recursion_limit = "256"]

mod app;
mod body;
mod call;
mod detach;
mod fold;
mod hijack;
mod listen;
mod pipes;
mod query;
mod raw;
mod reply;
mod routes;
mod version;
mod websocket;
mod wire;

use anyhow::Context;
use contract::settings::Settings;

/// Most threads for what blocks; half of them at most is for files of containers.
const WORKERS: usize = 128;
/// Bytes.
const STACK: usize = 512 * 1024;

/// Makes processes that are born in containers. Nobody in there may look into its memory, either.
fn zygote() -> std::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    runtime::launch::zygote_main()
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--routes") {
        routes::print();
        return Ok(());
    }
    if words.iter().any(|word| word == runtime::launch::ZYGOTE) {
        return zygote().context("the zygote ends");
    }
    // Files of containers are for every user in them, whatever PID 1 left as mask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // A child on its way into a container's user namespace still has this memory: nobody in there may look into it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("close the engine's memory")?;
    // Before anything else is opened, which would get a number that PID 1 left free.
    let inherited = app::Inherited::take();
    let (settings, _) = Settings::parse(words.iter().map(String::as_str))?;
    let level = settings.log.as_deref().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
    let config = app::configuration(inherited.config.as_ref())?;
    let (output, names) = (thread("output")?, thread("names")?);
    let served: anyhow::Result<()> = runtime()?.block_on(async {
        let (ports, mut door) = networks::ports::Ports::new();
        let app = app::App::open(&settings, config, inherited.keeper, output, ports, names)
            .await
            .context("the engine cannot start")?;
        if let Some(sockets) = inherited.names {
            app.networks.serve_host_names(sockets)?;
        }
        if let Some(listener) = inherited.door {
            if let Some(tell) =
                containers::tell_changes_of_host_folders(contract::paths::HOST_FOLDERS.as_ref())?
            {
                door.on_changes(tell);
            }
            // Not before: what runs has its ports in the book now.
            listen::serve_door(listener, door)?;
        }
        listen::serve(app, inherited.unix, inherited.vsock).await
    });
    if let Err(error) = &served
        && matches!(error.downcast_ref(), Some(store::StoreError::Newer { .. }))
    {
        tracing::error!("{error:#}");
        // Another try would end in the same way, and PID 1 makes none.
        std::process::exit(contract::keeper::EXIT_NEWER_DISK);
    }
    served
}

/// One thread, and workers for what blocks: see "Who may block" in ARCHITECTURE.md.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(WORKERS)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .context("start the async runtime")
}

/// A thread with a runtime of its own. `output` reads what processes print and writes it into their logs: a full disk or a slow
/// client holds up nothing else. `names` answers containers that ask for names, however much they ask.
fn thread(name: &str) -> anyhow::Result<tokio::runtime::Handle> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    thread
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .with_context(|| format!("start the thread {name}"))?;
    Ok(handle)
}
