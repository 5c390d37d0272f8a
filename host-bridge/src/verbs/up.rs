//! `pinnace up`: from nothing to an API that answers.

use super::context::{self, Context};
use super::{VerbError, block_on, bridge, place, share, system, visit};
use crate::bridge::{Event, first_answer};
use crate::order::{BackendKind, Order};
use crate::place::Place;
use crate::state::{Phase, State};
use crate::{Which, host, log, say, size};
use clap::ValueEnum;
use contract::config::REMAPS;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The engine answered the bridge a moment ago.
const GREET_DEADLINE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(100);

/// Options of `pinnace up`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Folder of vmlinuz and initramfs.zst [default: beside this program, or in ../share/pinnace]
    #[arg(long, env = "PINNACE_IMAGE")]
    image: Option<PathBuf>,
    /// Where it runs
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
    /// The machine's memory [default: 2G, or half of the host's]
    #[arg(long, value_parser = size::parse)]
    memory: Option<u64>,
    /// The machine's processors [default: the host's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: Option<u32>,
    /// File of the data disk [default: data.img in the appliance's folder]
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Size of the data disk; it takes only the room that is used [default: 64G when it is made]
    #[arg(long, value_parser = size::parse)]
    disk_size: Option<u64>,
    /// Leave the docker CLI's contexts alone
    #[arg(long)]
    no_context: bool,
    /// Stay in the terminal; Ctrl-C powers off
    #[arg(long)]
    foreground: bool,
    /// Give up a guest that has not answered after so many seconds
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Registry spoken to without verified TLS: HOST[:PORT] or CIDR
    #[arg(long, value_parser = word)]
    insecure_registry: Vec<String>,
    /// Mirror of Docker Hub: URL
    #[arg(long, value_parser = word)]
    registry_mirror: Vec<String>,
    /// Run containers in user namespaces: their ids 0 to 65535 become the machine's from this one on, `default` is 100000
    #[arg(long, value_name = "ID|default", value_parser = remap)]
    userns_remap: Option<u32>,
    /// Folder of this host that containers may mount, beside the home folder; `none`: not the home folder either (with
    /// --backend namespace)
    #[arg(long, value_name = "FOLDER|none")]
    share: Vec<PathBuf>,
    /// Log level of the engine: error, warn, info, debug or trace
    #[arg(long, value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: Option<String>,
}

/// What `--backend` takes.
#[derive(Clone, Copy, ValueEnum)]
enum BackendChoice {
    /// A virtual machine
    Auto,
    /// A virtual machine under QEMU
    Qemu,
    /// New namespaces of this host's kernel: fast, no security boundary, needs root
    Namespace,
}

/// Registries and mirrors are named without spaces and quotes.
fn word(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"') {
        true => Err("expected one word without spaces and quotes".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The first id of the machine that containers get.
fn remap(text: &str) -> Result<u32, String> {
    let first = if text == "default" { Some(100_000) } else { text.parse().ok() };
    let expected = || format!("expected default or a number from {} to {}", REMAPS.start(), REMAPS.end());
    first.filter(|first| REMAPS.contains(first)).ok_or_else(expected)
}

/// Boots the appliance, or tells that it runs.
pub fn run(options: &Options) -> Result<ExitCode, VerbError> {
    let place = place(&options.which)?;
    let turn = place.wait_for_turn()?;
    if let Some(state) = running(&place)? {
        say::note(&format!("{} is running already ({})", state.name, state.backend));
        say_what_differs(options, &order(options, &place)?, &state);
        finish(options, &state);
        return Ok(ExitCode::SUCCESS);
    }
    let order = order(options, &place)?;
    if options.foreground {
        return foreground(options, order, turn);
    }
    let state = block_on(background(&place, &order))?;
    say::note(&format!("{} is up ({}), {}", state.name, state.backend, times(&state)));
    finish(options, &state);
    Ok(ExitCode::SUCCESS)
}

fn order(options: &Options, place: &Place) -> Result<Order, VerbError> {
    let backend = match options.backend {
        BackendChoice::Auto | BackendChoice::Qemu => BackendKind::Qemu,
        BackendChoice::Namespace => BackendKind::Namespace,
    };
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| VerbError::File { path: path.to_owned(), source })
    };
    let image = options.image.clone().or_else(image_beside).ok_or(VerbError::NoImage)?;
    Ok(Order {
        name: options.which.name.clone(),
        dir: place.dir().to_owned(),
        image: absolute(&image)?,
        backend,
        memory_mib: options.memory.unwrap_or_else(default_memory) >> 20,
        cpus: options.cpus.unwrap_or_else(default_cpus),
        disk: absolute(options.disk.as_deref().unwrap_or(&place.disk()))?,
        disk_bytes: options.disk_size.unwrap_or(64 << 30),
        disk_size_given: options.disk_size.is_some(),
        timeout_secs: options.timeout,
        insecure_registries: options.insecure_registry.clone(),
        registry_mirrors: options.registry_mirror.clone(),
        userns_remap: options.userns_remap,
        shares: share::folders(&options.share)?,
        // A path that is not absolute would be another one for the bridge.
        ssh_agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).filter(|path| path.is_absolute()),
        log: options.log.clone(),
    })
}

/// Where a release has its image.
pub fn image_beside() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let places = [folder.to_owned(), folder.join("../share/pinnace")];
    places.into_iter().find(|place| place.join("initramfs.zst").is_file())
}

/// 2 GiB, or half of a smaller host.
fn default_memory() -> u64 {
    (2 << 30).min(host::memory().unwrap_or(u64::MAX) / 2)
}

fn default_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// What runs already: one that is booting is waited for, and one that powers off leaves the place free.
fn running(place: &Place) -> Result<Option<State>, VerbError> {
    let mut progress = say::Progress::default();
    let mut told = None;
    while place.has_bridge()? {
        match visit::status(place) {
            Ok(state) if state.state == Phase::Up => return Ok(Some(state)),
            Ok(State { state: Phase::Paused, reason: Some(error), .. }) => {
                return Err(VerbError::NotUp { error });
            }
            Ok(state) => {
                if told.replace(state.state) != Some(state.state) {
                    progress.step(waits_for(state.state));
                }
            }
            // It ended between the two questions.
            Err(_) if !place.has_bridge()? => {}
            Err(error) => return Err(error),
        }
        progress.tick();
        std::thread::sleep(TICK);
    }
    Ok(None)
}

fn waits_for(state: Phase) -> &'static str {
    match state {
        Phase::Preparing | Phase::Booting => "waiting for the appliance that is booting",
        Phase::Paused => "waiting for the appliance that stands still",
        Phase::Up | Phase::Stopping | Phase::Stopped | Phase::Failed => {
            "waiting for the appliance that is powering off"
        }
    }
}

/// What was asked for and is not so: it would take another boot.
fn say_what_differs(options: &Options, order: &Order, state: &State) {
    let Some(running) = &state.order else { return };
    let differs = differing(options, order, running);
    if !differs.is_empty() {
        let options = differs.join(", ");
        say::note(&format!(
            "it does not run with {options} as asked for: that takes pinnace down and pinnace up"
        ));
    }
}

/// The options that were given and are not those of the appliance that runs.
fn differing(options: &Options, order: &Order, running: &Order) -> Vec<&'static str> {
    let given = |given: bool, same: bool, option| (given && !same).then_some(option);
    let backend = !matches!(options.backend, BackendChoice::Auto);
    [
        given(options.image.is_some(), order.image == running.image, "--image"),
        given(backend, order.backend == running.backend, "--backend"),
        given(options.memory.is_some(), order.memory_mib == running.memory_mib, "--memory"),
        given(options.cpus.is_some(), order.cpus == running.cpus, "--cpus"),
        given(options.disk.is_some(), order.disk == running.disk, "--disk"),
        given(options.disk_size.is_some(), order.disk_bytes == running.disk_bytes, "--disk-size"),
        given(
            !options.insecure_registry.is_empty(),
            order.insecure_registries == running.insecure_registries,
            "--insecure-registry",
        ),
        given(
            !options.registry_mirror.is_empty(),
            order.registry_mirrors == running.registry_mirrors,
            "--registry-mirror",
        ),
        given(options.userns_remap.is_some(), order.userns_remap == running.userns_remap, "--userns-remap"),
        given(!options.share.is_empty(), order.shares == running.shares, "--share"),
        given(options.log.is_some(), order.log == running.log, "--log"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn foreground(options: &Options, order: Order, turn: crate::lock::Lock) -> Result<ExitCode, VerbError> {
    bridge::log_to_stderr();
    let mut turn = Some(turn);
    let result = bridge::supervise(order, |event| match event {
        Event::Step(text) | Event::Note(text) => say::note(&text),
        Event::Ready(state) => {
            drop(turn.take());
            say::note(&format!("{} is up ({}), {}", state.name, state.backend, times(&state)));
            finish(options, &state);
        }
        Event::Failed { console, .. } => show(&console),
    })?;
    result?;
    Ok(ExitCode::SUCCESS)
}

/// Starts a bridge and waits for its word.
async fn background(place: &Place, order: &Order) -> Result<State, VerbError> {
    let mut child = spawn(place)?;
    let order = serde_json::to_vec(order).expect("an order is plain data");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(&order).await.map_err(system("give the bridge its order"))?;
    drop(stdin);
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut progress = say::Progress::default();
    let heard = tokio::select! {
        heard = listen(BufReader::new(stdout).lines(), &mut progress) => heard,
        _ = tokio::signal::ctrl_c() => {
            progress.step("interrupted, powering off");
            terminate(&child);
            None
        }
    };
    progress.end();
    match heard {
        Some(Event::Ready(state)) => {
            greet(&state).await?;
            Ok(*state)
        }
        Some(Event::Failed { error, console }) => {
            let _ = child.wait().await;
            show(&console);
            Err(VerbError::NotUp { error })
        }
        Some(Event::Step(_) | Event::Note(_)) | None => {
            let _ = child.wait().await;
            Err(VerbError::BridgeLost { log: place.bridge_log() })
        }
    }
}

fn spawn(place: &Place) -> Result<Child, VerbError> {
    let path = place.bridge_log();
    let log = log::append(&path).map_err(|source| VerbError::File { path, source })?;
    let mut command = Command::new(host::own_program().map_err(system("find this program"))?);
    command.arg("bridge").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    host::detach(&mut command);
    command.spawn().map_err(system("start the bridge"))
}

/// The first word that ends the waiting.
async fn listen(mut lines: Lines<BufReader<ChildStdout>>, progress: &mut say::Progress) -> Option<Event> {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            line = lines.next_line() => match serde_json::from_str(&line.ok()??) {
                Ok(Event::Step(text)) => progress.step(&text),
                Ok(Event::Note(text)) => say::note(&text),
                Ok(event) => return Some(event),
                Err(error) => say::note(&format!("the bridge said something strange: {error}")),
            },
            _ = ticks.tick() => progress.tick(),
        }
    }
}

/// The whole way once, as docker will go it.
async fn greet(state: &State) -> Result<(), VerbError> {
    match first_answer::answers_on(&state.socket, GREET_DEADLINE).await {
        true => Ok(()),
        false => {
            let error = format!("the API does not answer on {}: see pinnace logs", state.socket.display());
            Err(VerbError::NotUp { error })
        }
    }
}

fn terminate(child: &Child) {
    if let Some(pid) = child.id() {
        host::terminate(pid);
    }
}

fn times(state: &State) -> String {
    let seconds = |millis: Option<u64>| millis.unwrap_or_default() as f64 / 1000.0;
    format!(
        "first answer after {:.2} s, PID 1 ran after {:.2} s",
        seconds(state.first_answer_millis),
        seconds(state.first_instruction_millis)
    )
}

/// The guest's last words explain what the error cannot.
fn show(console: &[String]) {
    for line in console {
        say::note(&format!("  | {line}"));
    }
}

/// What to type next.
fn finish(options: &Options, state: &State) {
    let host = host::docker_host(&state.socket);
    let with_host = format!("DOCKER_HOST={host} docker");
    let context = match options.no_context {
        true => Context::NoCli,
        false => context::point(&options.which.name, &state.socket),
    };
    let docker = match context {
        Context::Ready => format!("docker --context {}", options.which.name),
        Context::NoCli => with_host,
        Context::Failed(text) => {
            say::note(&format!("the docker context could not be made: {text}"));
            with_host
        }
    };
    say::result(&format!("{docker} run --rm debian:bookworm-slim echo hello"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn read(words: &[&str]) -> (Options, Order) {
        let line = ["up", "--image", "/image"].iter().chain(words);
        let options = Line::parse_from(line).options;
        let order = order(&options, &Place::at(Path::new("/p")).unwrap()).unwrap();
        (options, order)
    }

    fn check(running: &[&str], asked: &[&str], want: &[&str]) {
        let (options, order) = read(asked);
        assert_eq!(differing(&options, &order, &read(running).1), want, "{asked:?} beside {running:?}");
    }

    #[test]
    fn only_what_was_asked_for_and_is_not_so_differs() {
        check(&[], &[], &[]);
        check(&["--memory", "1G", "--log", "debug"], &[], &[]);
        check(&["--memory", "1G"], &["--memory", "1024M"], &[]);
        check(&[], &["--memory", "1M", "--cpus", "200"], &["--memory", "--cpus"]);
        check(&["--backend", "qemu"], &["--backend", "namespace"], &["--backend"]);
        check(&["--registry-mirror", "a"], &["--registry-mirror", "b"], &["--registry-mirror"]);
        check(&[], &["--userns-remap", "default", "--disk-size", "1G"], &["--disk-size", "--userns-remap"]);
    }
}
