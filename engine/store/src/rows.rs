//! Reading and writing rows inside one transaction.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Deref};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableError, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::definition;
use super::{Key, StoreError, Table};

/// Changes of one write that are not in its transaction yet; `None` is a deletion.
type Overlay = BTreeMap<(&'static str, String), Option<Vec<u8>>>;

/// One consistent state of the database.
pub struct Reader<'a> {
    source: Source<'a>,
}

/// The newest state, with the changes made here on top.
pub struct Writer<'a> {
    reader: Reader<'a>,
}

enum Source<'a> {
    Committed(ReadTransaction),
    Pending { transaction: &'a WriteTransaction, overlay: Overlay },
}

/// A row that cannot be read: torn, or of a form that this release does not know. It stands for one damaged object,
/// and its room shows it as such until it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Name of the table.
    pub table: &'static str,
    /// Text of the key.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damaged { table, key, reason } = self;
        write!(f, "its record {key:?} in the table {table:?} cannot be read: {reason}")
    }
}

/// All rows of a table, in the order of the keys' texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<K, V> {
    /// Those that can be read.
    pub readable: Vec<(K, V)>,
    /// The others.
    pub damaged: Vec<Damaged>,
}

impl Reader<'static> {
    pub(super) fn begin(database: &impl ReadableDatabase) -> Result<Reader<'static>, StoreError> {
        let transaction = database.begin_read().map_err(StoreError::storage)?;
        Ok(Reader { source: Source::Committed(transaction) })
    }
}

impl Reader<'_> {
    /// The row of a key.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get<K: Key + ?Sized, V: DeserializeOwned>(
        &self,
        table: Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        let key = key.encode();
        let row = self.raw(table.name(), &key)?;
        row.map(|bytes| decode(table.name(), &key, &bytes).map_err(StoreError::Damaged)).transpose()
    }

    /// Whether the key has a row, readable or not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn contains<K: Key + ?Sized, V>(&self, table: Table<K, V>, key: &K) -> Result<bool, StoreError> {
        Ok(self.raw(table.name(), &key.encode())?.is_some())
    }

    /// Every row. One that cannot be read keeps none of the others back.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn rows<K: Key + ?Sized, V: DeserializeOwned>(
        &self,
        table: Table<K, V>,
    ) -> Result<Rows<K::Owned, V>, StoreError> {
        let mut rows = Rows { readable: Vec::new(), damaged: Vec::new() };
        for (text, bytes) in self.raw_prefix(table.name(), "")? {
            match (K::decode(&text), decode(table.name(), &text, &bytes)) {
                (Some(key), Ok(value)) => rows.readable.push((key, value)),
                (_, Err(damaged)) => rows.damaged.push(damaged),
                (None, Ok(_)) => {
                    let reason = "it has an impossible key".to_owned();
                    rows.damaged.push(Damaged { table: table.name(), key: text, reason });
                }
            }
        }
        Ok(rows)
    }

    /// Texts of the keys that begin with `prefix`, in the order of their bytes.
    pub(super) fn keys(&self, table: &'static str, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.raw_prefix(table, prefix)?.into_keys().collect())
    }

    fn raw(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.source {
            Source::Committed(transaction) => match transaction.open_table(definition(table)) {
                Ok(rows) => raw_get(&rows, key),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(StoreError::storage(error)),
            },
            Source::Pending { transaction, overlay } => {
                if let Some(change) = overlay.get(&(table, key.to_owned())) {
                    return Ok(change.clone());
                }
                let rows = transaction.open_table(definition(table)).map_err(StoreError::storage)?;
                raw_get(&rows, key)
            }
        }
    }

    fn raw_prefix(&self, table: &'static str, prefix: &str) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        match &self.source {
            Source::Committed(transaction) => match transaction.open_table(definition(table)) {
                Ok(rows) => raw_range(&rows, prefix),
                Err(TableError::TableDoesNotExist(_)) => Ok(BTreeMap::new()),
                Err(error) => Err(StoreError::storage(error)),
            },
            Source::Pending { transaction, overlay } => {
                let rows = transaction.open_table(definition(table)).map_err(StoreError::storage)?;
                let mut found = raw_range(&rows, prefix)?;
                let from = (Bound::Included((table, prefix.to_owned())), Bound::Unbounded);
                let changes = overlay.range(from);
                for ((_, key), change) in
                    changes.take_while(|((of, key), _)| *of == table && key.starts_with(prefix))
                {
                    match change {
                        Some(bytes) => drop(found.insert(key.clone(), bytes.clone())),
                        None => drop(found.remove(key)),
                    }
                }
                Ok(found)
            }
        }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn begin(transaction: &'a WriteTransaction) -> Writer<'a> {
        Writer { reader: Reader { source: Source::Pending { transaction, overlay: Overlay::new() } } }
    }

    /// Sets the row of a key.
    ///
    /// # Errors
    /// The value is no JSON.
    pub fn put<K: Key + ?Sized, V: Serialize>(
        &mut self,
        table: Table<K, V>,
        key: &K,
        value: &V,
    ) -> Result<(), StoreError> {
        let key = key.encode();
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Encode {
            table: table.name(),
            key: key.clone().into_owned(),
            source: Arc::new(source),
        })?;
        self.change(table.name(), &key, Some(bytes));
        Ok(())
    }

    /// Removes the row of a key, readable or not; nothing happens when there is none.
    pub fn delete<K: Key + ?Sized, V>(&mut self, table: Table<K, V>, key: &K) {
        self.change(table.name(), &key.encode(), None);
    }

    /// Removes a row that cannot be read.
    pub fn discard(&mut self, damaged: &Damaged) {
        self.change(damaged.table, &damaged.key, None);
    }

    pub(super) fn change(&mut self, table: &'static str, key: &str, change: Option<Vec<u8>>) {
        if let Source::Pending { overlay, .. } = &mut self.reader.source {
            overlay.insert((table, key.to_owned()), change);
        }
    }

    /// Moves the changes into the transaction.
    pub(super) fn apply(self) -> Result<(), StoreError> {
        let Source::Pending { transaction, overlay } = self.reader.source else { return Ok(()) };
        let mut changes = overlay.into_iter().peekable();
        while let Some(((table, _), _)) = changes.peek() {
            let table = *table;
            let mut rows = transaction.open_table(definition(table)).map_err(StoreError::storage)?;
            while let Some(((_, key), change)) = changes.next_if(|((of, _), _)| *of == table) {
                match change {
                    Some(bytes) => {
                        drop(rows.insert(key.as_str(), bytes.as_slice()).map_err(StoreError::storage)?);
                    }
                    None => drop(rows.remove(key.as_str()).map_err(StoreError::storage)?),
                }
            }
        }
        Ok(())
    }
}

impl<'a> Deref for Writer<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Reader<'a> {
        &self.reader
    }
}

fn decode<V: DeserializeOwned>(table: &'static str, key: &str, bytes: &[u8]) -> Result<V, Damaged> {
    serde_json::from_slice(bytes).map_err(|error| Damaged {
        table,
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

fn raw_get(
    rows: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(rows.get(key).map_err(StoreError::storage)?.map(|value| value.value().to_vec()))
}

fn raw_range(
    rows: &impl ReadableTable<&'static str, &'static [u8]>,
    prefix: &str,
) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    let mut found = BTreeMap::new();
    for row in rows.range(prefix..).map_err(StoreError::storage)? {
        let (key, value) = row.map_err(StoreError::storage)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.insert(key.value().to_owned(), value.value().to_vec());
    }
    Ok(found)
}
