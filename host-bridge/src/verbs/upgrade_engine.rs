//! `pinnace upgrade-engine`: another release's engine in a machine that runs on, with its containers.

use super::{VerbError, block_on, place, visit};
use crate::backend::initramfs::Initramfs;
use crate::bridge::first_answer;
use crate::place::Place;
use crate::state::{Guest, Phase};
use crate::{Which, say};
use contract::line::{ENGINE_MAX, EngineOrigin};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An engine that does not answer within this does not work; it reads its database and all it is told by PID 1 first.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// The bridge's and the guest's word on what they were sent.
const WORD_DEADLINE: Duration = Duration::from_secs(30);
const PING_DEADLINE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(5);

/// Options of `pinnace upgrade-engine`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Folder of the image whose engine it shall be [default: the one beside this program]
    #[arg(long, env = "PINNACE_IMAGE")]
    image: Option<PathBuf>,
    /// The engine itself, in place of an image with it
    #[arg(long)]
    engine: Option<PathBuf>,
}

/// Sends it, and waits until it answers.
pub fn run(options: &Options) -> Result<(), VerbError> {
    let place = place(&options.which)?;
    let engine = engine(options)?;
    if !place.has_bridge()? || visit::status(&place)?.state != Phase::Up {
        return Err(VerbError::NotRunning);
    }
    let before = guest(&place)?.ok_or(VerbError::GuestMute)?;
    let mut progress = say::Progress::begin("sending the engine");
    send(&place, &engine)?;
    progress.step("waiting for its first answer");
    let begun = Instant::now();
    wait(&place, before.engine_starts, begun + ANSWER_DEADLINE)?;
    progress.end();
    say::note(&format!("the engine was replaced; it was away for {:.2} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

fn engine(options: &Options) -> Result<Vec<u8>, VerbError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| VerbError::File { path, source }
    };
    let engine = match &options.engine {
        Some(path) => std::fs::read(path).map_err(file(path))?,
        None => {
            let image = options.image.clone().or_else(super::up::image_beside).ok_or(VerbError::NoImage)?;
            Initramfs::read(&image)?.file(contract::paths::ENGINED)?
        }
    };
    match engine.starts_with(b"\x7fELF") && engine.len() as u64 <= ENGINE_MAX {
        true => Ok(engine),
        false => Err(VerbError::NoEngine),
    }
}

/// The bridge says `go`, takes the bytes, and passes on what the guest says of them.
fn send(place: &Place, engine: &[u8]) -> Result<(), VerbError> {
    let word = visit::send(place, &format!("upgrade-engine {}", engine.len()), engine, WORD_DEADLINE)?;
    match word.trim_end() {
        "ok" => Ok(()),
        error => Err(VerbError::Refused { error: error.strip_prefix("error ").unwrap_or(error).to_owned() }),
    }
}

fn wait(place: &Place, starts: u32, deadline: Instant) -> Result<(), VerbError> {
    while Instant::now() < deadline {
        if let Some(seen) = guest(place)?.filter(|guest| guest.engine_starts > starts) {
            if seen.engine == EngineOrigin::Image.word() {
                return Err(VerbError::EngineDied);
            }
            // A connection outlives an engine that dies, so another one may have answered.
            if answers(place) && guest(place)?.as_ref() == Some(&seen) {
                return Ok(());
            }
        }
        std::thread::sleep(TICK);
    }
    Err(VerbError::EngineMute)
}

fn guest(place: &Place) -> Result<Option<Guest>, VerbError> {
    visit::status(place).map(|state| state.guest)
}

/// Whether the API answers. A connection that the engine did not take waits in PID 1's socket for the next one.
fn answers(place: &Place) -> bool {
    let answers = async { Ok(first_answer::answers_on(&place.docker_socket(), PING_DEADLINE).await) };
    block_on(answers).unwrap_or(false)
}
