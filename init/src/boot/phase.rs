//! Phases and the order of their undoing. Pure: it knows nothing of what a phase does.

use std::time::{Duration, Instant};

/// Where a phase is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a machine of its own.
    Vm,
    /// There and in namespaces on a host.
    Both,
    /// Only in namespaces on a host.
    Namespace,
}

impl Place {
    /// Whether it is needed in a VM (`vm`) or in namespaces.
    pub fn applies(self, vm: bool) -> bool {
        match self {
            Place::Both => true,
            Place::Vm => vm,
            Place::Namespace => !vm,
        }
    }
}

/// One step of the boot.
#[derive(Debug)]
pub struct Phase<M, E> {
    /// What a failure is reported by.
    pub name: &'static str,
    /// Where it is needed.
    pub place: Place,
    /// Does it; when it fails it leaves nothing to undo.
    pub run: fn(&mut M) -> Result<(), E>,
    /// Takes it back; tells its own failures, since there is nobody to hand them to.
    pub undo: fn(&mut M),
}

/// The undo of what needs none.
pub fn nothing<M>(_: &mut M) {}

/// The phases that were done.
#[derive(Debug)]
pub struct Done<M: 'static, E: 'static>(Vec<&'static Phase<M, E>>);

/// The phase that failed; those before it are undone already.
#[derive(Debug, thiserror::Error)]
#[error("phase {name} failed")]
pub struct FailedPhase<E: std::error::Error + 'static> {
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub source: E,
}

impl<M, E> Done<M, E> {
    /// Undoes all, the last first.
    pub fn undo(self, machine: &mut M) {
        self.0.into_iter().rev().for_each(|phase| (phase.undo)(machine));
    }
}

/// Runs `phases` in order; `told` hears of each when it is done, with the time it took.
pub fn run<M, E: std::error::Error>(
    phases: impl Iterator<Item = &'static Phase<M, E>>,
    machine: &mut M,
    mut told: impl FnMut(&'static str, Duration),
) -> Result<Done<M, E>, FailedPhase<E>> {
    let mut done = Done(Vec::new());
    for phase in phases {
        let begun = Instant::now();
        if let Err(source) = (phase.run)(machine) {
            done.undo(machine);
            return Err(FailedPhase { name: phase.name, source });
        }
        done.0.push(phase);
        told(phase.name, begun.elapsed());
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    type Log = Vec<&'static str>;

    const GOOD: [Phase<Log, No>; 3] = [
        Phase {
            name: "one",
            place: Place::Both,
            run: |log| {
                log.push("+one");
                Ok(())
            },
            undo: |log| log.push("-one"),
        },
        Phase {
            name: "two",
            place: Place::Vm,
            run: |log| {
                log.push("+two");
                Ok(())
            },
            undo: |log| log.push("-two"),
        },
        Phase {
            name: "three",
            place: Place::Namespace,
            run: |log| {
                log.push("+three");
                Ok(())
            },
            undo: nothing,
        },
    ];
    static PHASES: [Phase<Log, No>; 3] = GOOD;
    static BAD: Phase<Log, No> =
        Phase { name: "bad", place: Place::Both, run: |_| Err(No), undo: |log| log.push("-bad") };

    #[test]
    fn done_is_undone_in_reverse() {
        let mut log = Log::new();
        run(PHASES.iter(), &mut log, |_, _| {}).unwrap().undo(&mut log);
        assert_eq!(log, ["+one", "+two", "+three", "-two", "-one"]);
    }

    #[test]
    fn a_failure_undoes_what_came_before_it_and_is_named() {
        let mut log = Log::new();
        let phases = PHASES[..2].iter().chain([&BAD]).chain(&PHASES[2..]);
        let failed = run(phases, &mut log, |_, _| {}).unwrap_err();
        assert_eq!(crate::messages::chain(&failed), "phase bad failed: no");
        assert_eq!(log, ["+one", "+two", "-two", "-one"]);
    }

    #[test]
    fn a_place_decides() {
        let names = |vm| PHASES.iter().filter(|p| p.place.applies(vm)).map(|p| p.name).collect::<Vec<_>>();
        assert_eq!(names(true), ["one", "two"]);
        assert_eq!(names(false), ["one", "three"]);
    }
}
