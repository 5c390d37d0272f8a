//! Running tests, and counting what came of them.
//!
//! Tests that fail have a second try, alone. One that passes then failed because the machine was too busy for it beside others:
//! that is told, and fails nothing. What fails alone as well is a fault.

use crate::say;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// More failures than this are no matter of a busy machine.
const SECOND_TRIES: usize = 8;

/// What came of all tests so far.
#[derive(Default)]
pub struct Count {
    /// Passed, at once or alone.
    pub passed: usize,
    /// Failed, also alone.
    pub failed: usize,
    /// Said themselves that they cannot run here.
    pub skipped: usize,
    /// Those that failed beside others and passed alone.
    pub unsteady: Vec<String>,
    /// Runs that failed otherwise than by a test, for example because they did not compile.
    pub broken: Vec<String>,
}

impl Count {
    /// libtest knows no skipping at run time: it counted them as passed.
    pub fn skip(&mut self, lines: &[String]) {
        self.passed = self.passed.saturating_sub(lines.len());
        self.skipped += lines.len();
    }

    fn add(&mut self, run: &Run, what: &str) {
        self.passed += run.passed;
        self.failed += run.failed.len();
        self.skipped += run.ignored;
        if run.is_broken {
            self.broken.push(what.to_owned());
        }
    }
}

/// Runs a test command, with so many tests at a time, shows what it says, and counts.
///
/// # Errors
/// It cannot be started.
pub fn run_tests(what: &str, command: &mut Command, at_a_time: Option<u32>, count: &mut Count) -> Result<()> {
    let mut first = run_once(what, same(command).args(at_a_time.map(threads)))?;
    if !first.is_broken && (1..=SECOND_TRIES).contains(&first.failed.len()) {
        say::step(&format!("{what}: those that failed, alone"));
        let second = run_once(what, same(command).args(["--exact", &threads(1)]).args(&first.failed))?;
        // A run that breaks off has proven nothing.
        if !second.is_broken {
            let (still, unsteady): (Vec<_>, Vec<_>) =
                first.failed.into_iter().partition(|name| second.failed.contains(name));
            first.failed = still;
            first.passed += unsteady.len();
            count.unsteady.extend(unsteady);
        }
    }
    count.add(&first, what);
    Ok(())
}

fn threads(count: u32) -> String {
    format!("--test-threads={count}")
}

/// A command can be run once only.
fn same(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        same.current_dir(folder);
    }
    same
}

/// One run of a test command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    passed: usize,
    ignored: usize,
    /// By name.
    failed: Vec<String>,
    /// It failed otherwise than by a test.
    is_broken: bool,
}

fn run_once(what: &str, command: &mut Command) -> Result<Run> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {what}"))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut run = Run::default();
    // The words of a test can be any bytes.
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        run.hear(&line);
        say::output(&line);
    }
    run.is_broken = !child.wait()?.success() && run.failed.is_empty();
    Ok(run)
}

impl Run {
    /// Hears libtest's `test NAME ... FAILED` and `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn hear(&mut self, line: &str) {
        if let Some((name, "FAILED")) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            self.failed.push(name.to_owned());
        }
        let Some((_, counts)) = line.split_once("test result: ") else { return };
        let number = |word: &str| {
            let (before, _) = counts.split_once(word)?;
            before.split_whitespace().next_back()?.parse::<usize>().ok()
        };
        self.passed += number(" passed").unwrap_or(0);
        self.ignored += number(" ignored").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut run = Run::default();
        run.hear("running 5 tests");
        run.hear("test some::test ... ok");
        run.hear("test some::other ... FAILED");
        run.hear("test result: FAILED. 12 passed; 1 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s");
        run.hear("...test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        let failed = vec!["some::other".to_owned()];
        assert_eq!(run, Run { passed: 15, ignored: 1, failed, is_broken: false });
    }

    fn counted(script: &str) -> (usize, usize, usize, usize) {
        let mut count = Count::default();
        run_tests("a test", Command::new("sh").args(["-c", script, "sh"]), Some(4), &mut count).unwrap();
        (count.passed, count.failed, count.unsteady.len(), count.broken.len())
    }

    #[test]
    fn what_fails_is_tried_again_alone() {
        let both = "echo 'test a ... FAILED'; echo 'test b ... FAILED'; echo 'test result: x. 3 passed; 2 failed'; exit 1";
        let one = "echo 'test b ... FAILED'; exit 1";
        let alone = |second: &str| counted(&format!("case $1 in --exact) {second};; *) {both};; esac"));
        assert_eq!(alone("exit 0"), (5, 0, 2, 0));
        assert_eq!(alone(one), (4, 1, 1, 0));
        assert_eq!(alone("exit 101"), (3, 2, 0, 0));
        assert_eq!(counted("exit 101"), (0, 0, 0, 1));
    }
}
