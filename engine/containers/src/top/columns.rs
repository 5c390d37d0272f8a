//! The columns of ps(1) by their keywords.

use runtime::proc::{Machine, Process, TICKS};
use time::OffsetDateTime;

/// When the table is made.
pub(super) struct Now {
    pub machine: Machine,
    /// Seconds since 1970 UTC.
    pub seconds: u64,
}

pub(super) type Tell = fn(&Process, &Now) -> String;

/// One column of a table.
#[derive(Clone)]
pub(super) struct Column {
    pub title: String,
    pub tell: Tell,
}

/// Keywords, the title that ps gives them, and the content.
const COLUMNS: &[(&[&str], &str, Tell)] = &[
    (&["pid", "tgid"], "PID", |p, _| p.pid.to_string()),
    (&["ppid"], "PPID", |p, _| p.ppid.to_string()),
    (&["pgid", "pgrp"], "PGID", |p, _| p.group.to_string()),
    (&["sid"], "SID", |p, _| p.session.to_string()),
    (&["sess", "session"], "SESS", |p, _| p.session.to_string()),
    (&["user", "uname"], "USER", |p, _| user(p.users.1)),
    (&["euser"], "EUSER", |p, _| user(p.users.1)),
    (&["ruser"], "RUSER", |p, _| user(p.users.0)),
    (&["uid"], "UID", |p, _| p.users.1.to_string()),
    (&["euid"], "EUID", |p, _| p.users.1.to_string()),
    (&["ruid"], "RUID", |p, _| p.users.0.to_string()),
    (&["group", "egroup"], "GROUP", |p, _| user(p.groups.1)),
    (&["rgroup"], "RGROUP", |p, _| user(p.groups.0)),
    (&["gid"], "GID", |p, _| p.groups.1.to_string()),
    (&["egid"], "EGID", |p, _| p.groups.1.to_string()),
    (&["rgid"], "RGID", |p, _| p.groups.0.to_string()),
    (&["comm", "ucmd", "ucomm"], "COMMAND", |p, _| name(p)),
    (&["cmd"], "CMD", |p, _| command(p)),
    (&["args", "command"], "COMMAND", |p, _| command(p)),
    (&["c"], "C", |p, now| (permille(p, now) / 10).min(99).to_string()),
    (&["pcpu", "%cpu"], "%CPU", |p, now| tenths(permille(p, now))),
    (&["pmem", "%mem"], "%MEM", |p, now| tenths(p.resident * 1000 / now.machine.memory.max(1))),
    (&["vsz", "vsize"], "VSZ", |p, _| (p.virtual_size / 1024).to_string()),
    (&["rss", "rssize", "rsz"], "RSS", |p, _| (p.resident / 1024).to_string()),
    (&["tty", "tt"], "TT", |p, _| terminal(p.terminal)),
    (&["tname"], "TTY", |p, _| terminal(p.terminal)),
    (&["stat"], "STAT", |p, _| state(p)),
    (&["s", "state"], "S", |p, _| p.state.to_string()),
    (&["stime"], "STIME", |p, now| start(p, now)),
    (&["start_time", "bsdstart"], "START", |p, now| start(p, now)),
    (&["lstart"], "STARTED", |p, now| long_start(p, now)),
    (&["time", "cputime"], "TIME", |p, _| long_time(p.used / TICKS, true)),
    (&["bsdtime"], "TIME", |p, _| short_time(p.used / TICKS)),
    (&["etime"], "ELAPSED", |p, now| long_time(age(p, now), false)),
    (&["etimes"], "ELAPSED", |p, now| age(p, now).to_string()),
    (&["nlwp", "thcount"], "NLWP", |p, _| p.threads.to_string()),
    (&["ni", "nice"], "NI", |p, _| p.nice.to_string()),
    (&["pri"], "PRI", |p, _| (39 - p.priority).to_string()),
];

/// The column of a keyword.
pub(super) fn column(keyword: &str) -> Option<Column> {
    let found = COLUMNS.iter().find(|(keywords, _, _)| keywords.contains(&keyword))?;
    Some(Column { title: found.1.to_owned(), tell: found.2 })
}

/// The machine has no list of users but the one that all have in common.
fn user(id: u32) -> String {
    if id == 0 { "root".to_owned() } else { id.to_string() }
}

/// dockerd splits the lines of ps at white space, so that words are parted by one space; what is not printable
/// ps shows as a question mark.
fn printable(text: &str) -> String {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.join(" ").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn name(p: &Process) -> String {
    let ended = if p.state == 'Z' { " <defunct>" } else { "" };
    printable(&format!("{}{ended}", p.name))
}

fn command(p: &Process) -> String {
    let ended = if p.state == 'Z' { " <defunct>" } else { "" };
    match p.arguments.is_empty() {
        true => printable(&format!("[{}]{ended}", p.name)),
        false => printable(&p.arguments.join(" ")),
    }
}

/// Seconds since its start.
fn age(p: &Process, now: &Now) -> u64 {
    now.seconds.saturating_sub(now.machine.booted + p.started / TICKS)
}

/// Thousandths of one processor over its life.
fn permille(p: &Process, now: &Now) -> u64 {
    match age(p, now) {
        0 => 0,
        age => p.used * 1000 / TICKS / age,
    }
}

fn tenths(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

/// `[DD-]HH:MM:SS`; without `hours`, hours that are none are left out.
fn long_time(seconds: u64, hours: bool) -> String {
    let (days, h, m, s) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, h) {
        (0, 0) if !hours => format!("{m:02}:{s:02}"),
        (0, _) => format!("{h:02}:{m:02}:{s:02}"),
        _ => format!("{days}-{h:02}:{m:02}:{s:02}"),
    }
}

fn short_time(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn date(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn month(date: OffsetDateTime) -> &'static str {
    MONTHS[usize::from(u8::from(date.month())) - 1]
}

/// The hour, for an older one the day, for a much older one the year.
fn start(p: &Process, now: &Now) -> String {
    let (started, today) = (date(now.machine.booted + p.started / TICKS), date(now.seconds));
    if started.date() == today.date() {
        format!("{:02}:{:02}", started.hour(), started.minute())
    } else if started.year() == today.year() {
        format!("{}{:02}", month(started), started.day())
    } else {
        started.year().to_string()
    }
}

fn long_start(p: &Process, now: &Now) -> String {
    let t = date(now.machine.booted + p.started / TICKS);
    let day = t.weekday().to_string();
    let clock = format!("{:02}:{:02}:{:02}", t.hour(), t.minute(), t.second());
    format!("{} {} {} {clock} {}", &day[..3], month(t), t.day(), t.year())
}

/// Unix98 terminals have the majors 136 to 143.
fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

fn state(p: &Process) -> String {
    let flags = [
        (p.nice < 0, '<'),
        (p.nice > 0, 'N'),
        (p.session == p.pid, 's'),
        (p.threads > 1, 'l'),
        (i64::from(p.foreground) == i64::from(p.group), '+'),
    ];
    std::iter::once(p.state).chain(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Now {
        let machine = Machine { booted: 1_700_000_000, memory: 1 << 30, ..Machine::default() };
        // 2023-11-15 22:00 UTC, a day less 13 minutes after the boot.
        Now { machine, seconds: 1_700_085_600 }
    }

    #[test]
    fn contents_are_those_of_ps() {
        let process = Process {
            pid: 7,
            session: 7,
            group: 7,
            foreground: 7,
            terminal: 136 << 8 | 3,
            state: 'S',
            used: 3725 * TICKS,
            started: 80_000 * TICKS,
            threads: 2,
            resident: 1 << 28,
            virtual_size: 1 << 29,
            name: "sh".to_owned(),
            arguments: vec!["sh".into(), "-c".into(), "a  b\nc\u{7}".into()],
            ..Process::default()
        };
        let check = |keyword: &str, expected: &str| {
            let column = column(keyword).unwrap();
            assert_eq!((column.tell)(&process, &now()), expected, "{keyword}");
        };
        check("user", "root");
        check("args", "sh -c a b c?");
        check("comm", "sh");
        check("time", "01:02:05");
        check("bsdtime", "62:05");
        check("etime", "01:33:20");
        check("stime", "20:26");
        check("%cpu", "66.5");
        check("c", "66");
        check("%mem", "25.0");
        check("vsz", "524288");
        check("tname", "pts/3");
        check("stat", "Ssl+");
        check("lstart", "Wed Nov 15 20:26:40 2023");
        let started = Process { started: 0, ..process.clone() };
        assert_eq!((column("stime").unwrap().tell)(&started, &now()), "Nov14");
        let kernel = Process { arguments: vec![], state: 'Z', ..process };
        assert_eq!((column("cmd").unwrap().tell)(&kernel, &now()), "[sh] <defunct>");
        assert!(column("wchan").is_none());
    }
}
