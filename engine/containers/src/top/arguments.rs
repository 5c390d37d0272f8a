//! The words of ps(1) that `docker top` takes.

use super::columns::{Column, column};

/// `ps -f`, and `ps u`.
const FULL: [&str; 8] = ["uid", "pid", "ppid", "c", "stime", "tname", "time", "cmd"];
const USER: [&str; 11] =
    ["user", "pid", "%cpu", "%mem", "vsz", "rss", "tname", "stat", "start_time", "bsdtime", "command"];
const PLAIN: [&str; 4] = ["pid", "tname", "time", "comm"];
const BSD: [&str; 5] = ["pid", "tname", "stat", "bsdtime", "command"];

/// What the words ask for.
pub(super) struct Table {
    pub columns: Vec<Column>,
    /// What the rows are sorted by, the most significant first.
    pub order: Vec<Order>,
}

/// A column to sort by.
pub(super) struct Order {
    pub by: Column,
    /// From the highest down.
    pub descending: bool,
}

/// The table that the words ask for, or why not, in words for the client.
pub(super) fn table(words: &str) -> Result<Table, String> {
    let mut asked = Asked::default();
    let mut words = words.split_ascii_whitespace().peekable();
    while let Some(word) = words.next() {
        let list = asked.word(word)?;
        if let Some(rest) = list {
            let (kind, rest) = rest;
            let list = match (rest.is_empty(), kind) {
                (true, Kind::Columns) => words.next().ok_or("ps: list of columns missing after -o")?,
                (true, Kind::Order) => words.next().ok_or("ps: list of columns missing after --sort")?,
                (false, _) => rest,
            };
            match kind {
                Kind::Columns => asked.add(list)?,
                Kind::Order => asked.sort(list)?,
            }
        }
    }
    let (columns, order) = asked.finish();
    if columns.iter().any(|column| column.title == "PID") {
        return Ok(Table { columns, order });
    }
    Err("Couldn't find PID field in ps output".to_owned())
}

/// What a list of columns is for.
#[derive(Clone, Copy)]
enum Kind {
    Columns,
    Order,
}

#[derive(Default)]
struct Asked {
    full: bool,
    user: bool,
    bsd: bool,
    listed: Vec<Column>,
    order: Vec<Order>,
}

impl Asked {
    /// Understands a group of letters; what follows an `o` in it, or a `k` without a dash, is a list of columns.
    fn word<'a>(&mut self, word: &'a str) -> Result<Option<(Kind, &'a str)>, String> {
        let unknown = || {
            format!(
                "ps: unsupported argument {word:?}: -ef, aux, -o and --sort with a list of columns are understood"
            )
        };
        let (dash, letters) = match word.strip_prefix('-') {
            Some("-format") => return Ok(Some((Kind::Columns, ""))),
            Some("-sort") => return Ok(Some((Kind::Order, ""))),
            Some(rest) => match (rest.strip_prefix("-format="), rest.strip_prefix("-sort=")) {
                (Some(list), _) => return Ok(Some((Kind::Columns, list))),
                (_, Some(list)) => return Ok(Some((Kind::Order, list))),
                (None, None) => (true, rest),
            },
            None => (false, word),
        };
        if letters.is_empty() {
            return Err(unknown());
        }
        for (at, letter) in letters.char_indices() {
            match (letter, dash) {
                ('o', _) => return Ok(Some((Kind::Columns, &letters[at + 1..]))),
                ('k', false) => return Ok(Some((Kind::Order, &letters[at + 1..]))),
                ('f', true) => self.full = true,
                // `-aux` is what people mean who write it, and what ps takes it for.
                ('u', _) => self.user = true,
                // All processes are the container's; wide lines are whole.
                ('e' | 'A' | 'a' | 'x' | 'w' | 'd', _) => {}
                _ => return Err(unknown()),
            }
            self.bsd |= !dash;
        }
        Ok(None)
    }

    /// `pid,user=WHO` as ps reads it: the title behind `=` goes to the end.
    fn add(&mut self, list: &str) -> Result<(), String> {
        let (list, title) = match list.split_once('=') {
            Some((list, title)) => (list, Some(title)),
            None => (list, None),
        };
        if let Some(title) = title.filter(|title| title.starts_with("PID") || title.is_empty()) {
            let last = list.rsplit(',').next().unwrap_or_default();
            return Err(format!("specifying \"{last}={title}\" is not allowed"));
        }
        let keywords: Vec<&str> = list.split(',').filter(|keyword| !keyword.is_empty()).collect();
        for keyword in &keywords {
            let found = column(keyword);
            let unknown = || format!("ps: error: unknown user-defined format specifier {keyword:?}");
            self.listed.push(found.ok_or_else(unknown)?);
        }
        if let (Some(title), Some(last)) = (title, self.listed.last_mut()) {
            title.clone_into(&mut last.title);
        }
        Ok(())
    }

    /// `user,-pid`: upwards by the first, downwards by the second.
    fn sort(&mut self, list: &str) -> Result<(), String> {
        for keyword in list.split(',').filter(|keyword| !keyword.is_empty()) {
            let descending = keyword.starts_with('-');
            let by =
                column(keyword.trim_start_matches(['+', '-'])).ok_or("ps: error: unknown sort specifier")?;
            self.order.push(Order { by, descending });
        }
        Ok(())
    }

    fn finish(self) -> (Vec<Column>, Vec<Order>) {
        if !self.listed.is_empty() {
            return (self.listed, self.order);
        }
        let keywords: &[&str] = match (self.full, self.user, self.bsd) {
            (true, _, _) => &FULL,
            (_, true, _) => &USER,
            (_, _, true) => &BSD,
            _ => &PLAIN,
        };
        let mut columns: Vec<Column> = keywords.iter().filter_map(|keyword| column(keyword)).collect();
        if !self.full && !self.user && !self.bsd {
            columns[3].title = "CMD".to_owned();
        }
        if self.full {
            // `ps -f` names the user there, under the title of the number.
            columns[0] = Column { title: "UID".to_owned(), ..column("user").expect("it is in the table") };
        }
        (columns, self.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_columns() {
        let check = |words: &str, expected: Result<&str, &str>| {
            let titles = table(words).map(|table| {
                table.columns.iter().map(|column| column.title.as_str()).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(titles.as_deref().map_err(String::as_str), expected, "{words}");
        };
        check("-ef", Ok("UID PID PPID C STIME TTY TIME CMD"));
        let aux = Ok("USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        check("aux", aux);
        check("-aux", aux);
        check("auxww", aux);
        check("ax", Ok("PID TTY STAT TIME COMMAND"));
        check("-e", Ok("PID TTY TIME CMD"));
        check("-o pid,comm", Ok("PID COMMAND"));
        check("-eo pid,ppid,args", Ok("PID PPID COMMAND"));
        check("axo pid,user", Ok("PID USER"));
        check("-opid", Ok("PID"));
        check("-e -o pid -o comm=NAME", Ok("PID NAME"));
        check("-o user", Err("Couldn't find PID field in ps output"));
        check("-o user=PID", Err("specifying \"user=PID\" is not allowed"));
        check("aux --sort=comm", aux);
        check("aux --sort -pcpu,+pid", aux);
        check("aux k comm", aux);
        check("aux --sort=nope", Err("ps: error: unknown sort specifier"));
        check("-o pid,wchan", Err("ps: error: unknown user-defined format specifier \"wchan\""));
        check("-o", Err("ps: list of columns missing after -o"));
        let unknown =
            "ps: unsupported argument \"-L\": -ef, aux, -o and --sort with a list of columns are understood";
        check("-L", Err(unknown));
    }
}
