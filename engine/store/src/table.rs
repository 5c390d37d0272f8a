//! Tables: each belongs to one room, which declares it together with the type of its rows.

use std::borrow::Cow;
use std::marker::PhantomData;

use model::reference::{Digest, Reference};
use redb::TableDefinition;

pub(super) type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

/// A table whose keys are `K` and whose rows are `V`, kept as JSON. The room that owns it writes it, and nobody else.
pub struct Table<K: ?Sized, V> {
    name: &'static str,
    rows: PhantomData<fn(&K) -> V>,
}

impl<K: ?Sized, V> Table<K, V> {
    /// The table of that name; it is made by its first row.
    pub const fn new(name: &'static str) -> Table<K, V> {
        Table { name, rows: PhantomData }
    }

    /// What it is called in the database.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<K: ?Sized, V> Clone for Table<K, V> {
    fn clone(&self) -> Table<K, V> {
        *self
    }
}

impl<K: ?Sized, V> Copy for Table<K, V> {}

/// What a row is found by. Rows are in the order of the bytes of their keys' texts.
pub trait Key: ToOwned {
    /// The text in the database.
    fn encode(&self) -> Cow<'_, str>;

    /// The key that has this text, if any has.
    fn decode(text: &str) -> Option<Self::Owned>;
}

impl Key for str {
    fn encode(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }

    fn decode(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

impl Key for Digest {
    fn encode(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_str())
    }

    fn decode(text: &str) -> Option<Digest> {
        text.parse().ok()
    }
}

impl Key for Reference {
    fn encode(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn decode(text: &str) -> Option<Reference> {
        Reference::parse(text).ok()
    }
}

pub(super) const fn definition(table: &'static str) -> Definition {
    TableDefinition::new(table)
}
