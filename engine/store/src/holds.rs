//! Holds: "in use" without the used one knowing its user.
//!
//! A container takes a hold on what it uses in the transaction that records it, and what is held is not deleted. A hold
//! is found from both sides, so that it costs a look-up to ask who holds an image, and releasing all holds of a
//! container costs as much as it has. Each hold lasts as long as one of two things:
//!
//! - its holder's *existence*: a container holds its image from its creation to its removal;
//! - its holder's *run*: a container holds its network only while it runs, since Docker lets a network go that only
//!   stopped containers name.

use model::reference::Digest;

use super::{Damaged, Reader, StoreError, Writer};

/// What is held → by whom, and the reverse. The rows are empty, their keys say it all.
const HOLDS: &str = "holds";
const HOLDERS: &str = "holders";
/// No part of a key contains it.
const SEPARATOR: char = '\0';
/// A row that says nothing.
const EMPTY: &[u8] = b"null";

/// What can be held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// An image, by its id.
    Image(Digest),
    /// A network, by its id.
    Network(String),
    /// A volume, by its name.
    Volume(String),
}

/// Who can hold something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A container, by its id.
    Container(String),
}

/// How long a hold stands, if nobody releases it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifetime {
    /// Until the holder is removed.
    Existence,
    /// Until the run that goes on is over.
    Run,
}

impl Held {
    fn text(&self) -> String {
        match self {
            Held::Image(id) => format!("image:{id}"),
            Held::Network(id) => format!("network:{id}"),
            Held::Volume(name) => format!("volume:{name}"),
        }
    }

    fn parse(text: &str) -> Option<Held> {
        match text.split_once(':')? {
            ("image", id) => Some(Held::Image(id.parse().ok()?)),
            ("network", id) => Some(Held::Network(id.to_owned())),
            ("volume", name) => Some(Held::Volume(name.to_owned())),
            _ => None,
        }
    }
}

impl Holder {
    fn text(&self) -> String {
        match self {
            Holder::Container(id) => format!("container:{id}"),
        }
    }

    fn parse(text: &str) -> Option<Holder> {
        match text.split_once(':')? {
            ("container", id) => Some(Holder::Container(id.to_owned())),
            _ => None,
        }
    }
}

impl Lifetime {
    fn text(self) -> &'static str {
        match self {
            Lifetime::Existence => "existence",
            Lifetime::Run => "run",
        }
    }
}

impl Reader<'_> {
    /// Who holds `what`, in order; nobody twice.
    ///
    /// # Errors
    /// The database cannot be read, or has a hold that this release does not know.
    pub fn holders(&self, what: &Held) -> Result<Vec<Holder>, StoreError> {
        let prefix = format!("{}{SEPARATOR}", what.text());
        let mut found = self.far_ends(HOLDS, &prefix, Holder::parse)?;
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// What `by` holds, in order.
    ///
    /// # Errors
    /// The database cannot be read, or has a hold that this release does not know.
    pub fn held_by(&self, by: &Holder) -> Result<Vec<(Held, Lifetime)>, StoreError> {
        let mut found = Vec::new();
        for lifetime in [Lifetime::Existence, Lifetime::Run] {
            let held = self.far_ends(HOLDERS, &prefix(by, Some(lifetime)), Held::parse)?;
            found.extend(held.into_iter().map(|held| (held, lifetime)));
        }
        Ok(found)
    }

    fn far_ends<T>(
        &self,
        table: &'static str,
        prefix: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let far_end = |key: String| {
            let text = key.rsplit(SEPARATOR).next().unwrap_or_default();
            parse(text).ok_or_else(|| {
                let reason = "it is a hold of an unknown kind".to_owned();
                StoreError::Damaged(Damaged { table, key: key.replace(SEPARATOR, " "), reason })
            })
        };
        self.keys(table, prefix)?.into_iter().map(far_end).collect()
    }
}

impl Writer<'_> {
    /// Lets `by` hold `what`; taking it twice is taking it once.
    pub fn hold(&mut self, what: &Held, by: &Holder, lifetime: Lifetime) {
        let (what, by, lifetime) = (what.text(), by.text(), lifetime.text());
        self.change(HOLDS, &joined([&what, lifetime, &by]), Some(EMPTY.to_vec()));
        self.change(HOLDERS, &joined([&by, lifetime, &what]), Some(EMPTY.to_vec()));
    }

    /// Ends every hold of `by`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn release_all(&mut self, by: &Holder) -> Result<(), StoreError> {
        self.release(&prefix(by, None))
    }

    /// Ends every hold on `what`, which is removed.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn release_held(&mut self, what: &Held) -> Result<(), StoreError> {
        for key in self.keys(HOLDS, &format!("{}{SEPARATOR}", what.text()))? {
            if let [what, lifetime, by] = key.split(SEPARATOR).collect::<Vec<_>>()[..] {
                self.change(HOLDERS, &joined([by, lifetime, what]), None);
            }
            self.change(HOLDS, &key, None);
        }
        Ok(())
    }

    /// Ends the holds that `by` has for its run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn release_run(&mut self, by: &Holder) -> Result<(), StoreError> {
        self.release(&prefix(by, Some(Lifetime::Run)))
    }

    fn release(&mut self, prefix: &str) -> Result<(), StoreError> {
        for key in self.keys(HOLDERS, prefix)? {
            if let [by, lifetime, what] = key.split(SEPARATOR).collect::<Vec<_>>()[..] {
                self.change(HOLDS, &joined([what, lifetime, by]), None);
            }
            self.change(HOLDERS, &key, None);
        }
        Ok(())
    }
}

fn joined(parts: [&str; 3]) -> String {
    parts.join(&SEPARATOR.to_string())
}

/// How the keys of the holds of `by` begin.
fn prefix(by: &Holder, lifetime: Option<Lifetime>) -> String {
    let by = by.text();
    match lifetime {
        Some(lifetime) => format!("{by}{SEPARATOR}{}{SEPARATOR}", lifetime.text()),
        None => format!("{by}{SEPARATOR}"),
    }
}
