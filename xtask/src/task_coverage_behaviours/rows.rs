//! The list of statements: one a line, tab-separated: id, `!` or nothing, statement, why there is no test.

use super::LIST;
use anyhow::{Context, Result, bail};
use std::fmt;

/// Letters and titles of the sections, in their order.
pub const SECTIONS: [(char, &str); 19] = [
    ('A', "Transport, versions, errors"),
    ('B', "The system"),
    ('C', "Events"),
    ('D', "Create"),
    ('E', "Inspect and list"),
    ('F', "Start, stop, wait, remove"),
    ('G', "Attach, exec, resize"),
    ('H', "Logs"),
    ('I', "Health"),
    ('J', "Images"),
    ('K', "Files, changes, export, commit"),
    ('L', "Top and stats"),
    ('M', "Networks"),
    ('N', "Ports"),
    ('O', "Volumes and mounts"),
    ('P', "Environment and isolation of processes"),
    ('Q', "Classic build"),
    ('R', "BuildKit"),
    ('S', "What single clients expect"),
];

/// A statement.
pub struct Row {
    /// Its name in comments of tests.
    pub id: Id,
    /// A client that many use breaks without it.
    pub is_vital: bool,
    /// What is true.
    pub text: String,
    /// Why no test proves it, or what of it none does; empty where a test proves all of it.
    pub reason: String,
}

/// `F17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// `F`.
    pub section: char,
    /// 17.
    pub number: u8,
}

impl Id {
    /// A word that is a capital and one or two digits.
    pub fn parse(word: &str) -> Option<Id> {
        let section = word.chars().next().filter(char::is_ascii_uppercase)?;
        let digits = &word[1..];
        let is_number = matches!(digits.len(), 1 | 2) && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten().map(|number| Id { section, number })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.section, self.number)
    }
}

/// The rows in the order of their ids; lines that begin with `#` and the heading are skipped.
pub fn parse(list: &str) -> Result<Vec<Row>> {
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).skip(1);
    let mut rows = lines.map(row).collect::<Result<Vec<_>>>()?;
    rows.sort_by_key(|row| row.id);
    if let Some(twice) = rows.windows(2).find(|pair| pair[0].id == pair[1].id) {
        bail!("{LIST}: {} stands there twice", twice[0].id);
    }
    Ok(rows)
}

fn row(line: &str) -> Result<Row> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [id, vital, text, reason] = fields[..] else { bail!("{LIST}: not four fields: {line}") };
    let known = |id: &Id| SECTIONS.iter().any(|(letter, _)| *letter == id.section);
    let id = Id::parse(id).filter(known).with_context(|| format!("{LIST}: {id} is no id"))?;
    if !["", "!"].contains(&vital) || text.is_empty() {
        bail!("{LIST}: the row of {id} is not id, ! or nothing, statement, reason");
    }
    Ok(Row { id, is_vital: vital == "!", text: text.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_capital_and_a_number() {
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(Id::parse(word).map(|id| id.to_string()).as_deref(), expected, "{word}");
        };
        check("F17", Some("F17"));
        check("A1", Some("A1"));
        for word in ["", "F", "f17", "F170", "F1a", "17", "UTF8", "Ä1"] {
            check(word, None);
        }
    }

    #[test]
    fn rows_are_sorted_and_checked() {
        let list = "# words\nid\tvital\tstatement\treason\nB10\t\tb\t\n\nB9\t!\ta\twhy\n";
        let rows = parse(list).unwrap();
        let shown: Vec<_> = rows.iter().map(|row| (row.id.to_string(), row.is_vital, &*row.reason)).collect();
        assert_eq!(shown, [("B9".to_owned(), true, "why"), ("B10".to_owned(), false, "")]);
        for wrong in ["A1\t\tx", "A1\t?\tx\t", "A1\t\t\t", "Z1\t\tx\t", "A1\t\tx\t\nA1\t\ty\t"] {
            assert!(parse(&format!("id\tvital\tstatement\treason\n{wrong}")).is_err(), "{wrong}");
        }
    }
}
