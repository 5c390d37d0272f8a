//! The words of ps(1) that `docker top` takes.

use super::columns::{Column, column};

/// `ps -f`, and `ps u`.
const FULL: [&str; 8] = ["uid", "pid", "ppid", "c", "stime", "tname", "time", "cmd"];
const USER: [&str; 11] =
    ["user", "pid", "%cpu", "%mem", "vsz", "rss", "tname", "stat", "start_time", "bsdtime", "command"];
const PLAIN: [&str; 4] = ["pid", "tname", "time", "comm"];
const BSD: [&str; 5] = ["pid", "tname", "stat", "bsdtime", "command"];

/// The columns that the words ask for, or why not, in words for the client.
pub(super) fn columns(words: &str) -> Result<Vec<Column>, String> {
    let mut asked = Asked::default();
    let mut words = words.split_ascii_whitespace().peekable();
    while let Some(word) = words.next() {
        let list = asked.word(word)?;
        if let Some(rest) = list {
            let list = match rest.is_empty() {
                true => words.next().ok_or("ps: list of columns missing after -o")?,
                false => rest,
            };
            asked.add(list)?;
        }
    }
    let columns = asked.finish();
    if columns.iter().any(|column| column.title == "PID") {
        return Ok(columns);
    }
    Err("Couldn't find PID field in ps output".to_owned())
}

#[derive(Default)]
struct Asked {
    full: bool,
    user: bool,
    bsd: bool,
    listed: Vec<Column>,
}

impl Asked {
    /// Understands a group of letters; what follows an `o` in it is a list of columns.
    fn word<'a>(&mut self, word: &'a str) -> Result<Option<&'a str>, String> {
        let unknown = || {
            format!(
                "ps: unsupported argument {word:?}: -ef, aux and -o with a list of columns are understood"
            )
        };
        let (dash, letters) = match word.strip_prefix('-') {
            Some("-format") => return Ok(Some("")),
            Some(rest) => match rest.strip_prefix("-format=") {
                Some(list) => return Ok(Some(list)),
                None => (true, rest),
            },
            None => (false, word),
        };
        if letters.is_empty() {
            return Err(unknown());
        }
        for (at, letter) in letters.char_indices() {
            match (letter, dash) {
                ('o', _) => return Ok(Some(&letters[at + 1..])),
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
            self.listed.push(found.ok_or_else(|| format!("ps: unknown column {keyword:?}"))?);
        }
        if let (Some(title), Some(last)) = (title, self.listed.last_mut()) {
            title.clone_into(&mut last.title);
        }
        Ok(())
    }

    fn finish(self) -> Vec<Column> {
        if !self.listed.is_empty() {
            return self.listed;
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
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_columns() {
        let check = |words: &str, expected: Result<&str, &str>| {
            let titles = columns(words).map(|columns| {
                columns.iter().map(|column| column.title.as_str()).collect::<Vec<_>>().join(" ")
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
        check("-o pid,wchan", Err("ps: unknown column \"wchan\""));
        check("-o", Err("ps: list of columns missing after -o"));
        let unknown =
            "ps: unsupported argument \"-L\": -ef, aux and -o with a list of columns are understood";
        check("-L", Err(unknown));
    }
}
