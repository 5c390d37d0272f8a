//! `pinnace status`: how the appliance is. The exit code is 0 while its API answers, 1 otherwise.

use super::{VerbError, block_on, place, visit};
use crate::bridge::first_answer;
use crate::place::Place;
use crate::state::{Guest, Phase, State};
use crate::{Which, host, say};
use clap::ValueEnum;
use contract::line::EngineOrigin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An API that does not answer within this does not answer: it is asked what it answers in a millisecond.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Options of `pinnace status`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// How it is told
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Tells it.
pub fn run(options: &Options) -> Result<ExitCode, VerbError> {
    let place = place(&options.which)?;
    let mut state = known(&place)?;
    let up = state.as_ref().is_some_and(|state| state.state == Phase::Up);
    let answers = up
        && block_on(async { Ok(first_answer::answers_on(&place.docker_socket(), ANSWER_DEADLINE).await) })?;
    if let Some(state) = state.as_mut().filter(|_| up && !answers) {
        state.reason = Some("its API does not answer".to_owned());
    }
    match options.format {
        Format::Json => say::result(&json(options, state.as_ref())),
        Format::Text => say::result(&text(options, state.as_ref())),
    }
    Ok(if answers { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The bridge's word, or what it left.
fn known(place: &Place) -> Result<Option<State>, VerbError> {
    if place.has_bridge()? {
        match visit::status(place) {
            // It ended between the two questions.
            Err(_) if !place.has_bridge()? => {}
            asked => return asked.map(Some),
        }
    }
    Ok(State::load(place).map(over))
}

/// Without a bridge nothing runs, whatever a bridge that was killed wrote last.
fn over(mut state: State) -> State {
    if !matches!(state.state, Phase::Stopped | Phase::Failed) {
        state.state = Phase::Failed;
        state.reason = Some("its bridge was killed".to_owned());
        state.machine_pid = None;
    }
    state
}

fn json(options: &Options, state: Option<&State>) -> String {
    match state {
        Some(state) => serde_json::to_string_pretty(state).expect("a state is plain data"),
        None => serde_json::json!({ "state": Phase::Stopped, "name": options.which.name }).to_string(),
    }
}

fn text(options: &Options, state: Option<&State>) -> String {
    let Some(state) = state else { return format!("{} is stopped", options.which.name) };
    let mut lines = vec![headline(state)];
    let running = matches!(
        state.state,
        Phase::Preparing | Phase::Booting | Phase::Up | Phase::Paused | Phase::Stopping
    );
    if running {
        lines.push(format!("  socket   {}", host::docker_host(&state.socket)));
        lines.push(format!(
            "  bridge   pid {}, machine pid {}",
            state.pid,
            state.machine_pid.unwrap_or_default()
        ));
        lines.push(format!("  since    {}, boot {}", since(state.started_at), state.boots));
    }
    if let (Some(answer), Some(first)) = (state.first_answer_millis, state.first_instruction_millis) {
        lines.push(format!("  boot     PID 1 after {first} ms, first answer after {answer} ms"));
    }
    if let Some(guest) = &state.guest {
        let engine = (guest.engine_pid, guest.engine_starts);
        lines.push(format!(
            "  engine   pid {}, started {} times, {}, guest's release {}",
            engine.0,
            engine.1,
            origin(guest),
            guest.version
        ));
        if guest.read_only {
            lines.push("  data     damaged: can only be read until the next boot".to_owned());
        }
    }
    lines.join("\n")
}

fn origin(guest: &Guest) -> &'static str {
    match guest.engine == EngineOrigin::Upgrade.word() {
        true => "sent by pinnace upgrade-engine",
        false => "the image's own",
    }
}

fn headline(state: &State) -> String {
    let word = match state.state {
        Phase::Preparing | Phase::Booting => "is booting",
        Phase::Up => "is up",
        Phase::Paused => "stands still",
        Phase::Stopping => "is powering off",
        Phase::Stopped => "is stopped",
        Phase::Failed => "failed",
    };
    let reason = state.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{} {word} ({}){reason}", state.name, state.backend)
}

fn since(started_at: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = now.saturating_sub(started_at);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
