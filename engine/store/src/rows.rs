//! Reading and writing rows inside one transaction.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, Table};

/// Changes of one write that are not in its transaction yet; `None` is a deletion.
type Overlay = BTreeMap<(Table, String), Option<Vec<u8>>>;

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

impl Reader<'static> {
    pub(super) fn begin(database: &impl ReadableDatabase) -> Result<Reader<'static>, StoreError> {
        let transaction = database.begin_read().map_err(StoreError::storage)?;
        Ok(Reader { source: Source::Committed(transaction) })
    }
}

impl Reader<'_> {
    /// The value of a key.
    pub fn get<V: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<V>, StoreError> {
        self.raw(table, key)?.map(|bytes| decode(table, key, &bytes)).transpose()
    }

    /// Whether the key has a value.
    pub fn contains(&self, table: Table, key: &str) -> Result<bool, StoreError> {
        Ok(self.raw(table, key)?.is_some())
    }

    /// Every row, in the order of the keys' bytes.
    pub fn list<V: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, V)>, StoreError> {
        let rows = self.raw_prefix(table, "")?;
        rows.into_iter().map(|(key, bytes)| Ok((key.clone(), decode(table, &key, &bytes)?))).collect()
    }

    /// The keys that begin with `prefix`, in the order of their bytes.
    pub fn keys(&self, table: Table, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.raw_prefix(table, prefix)?.into_keys().collect())
    }

    fn raw(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.source {
            Source::Committed(transaction) => {
                let rows = transaction.open_table(table.definition()).map_err(StoreError::storage)?;
                raw_get(&rows, key)
            }
            Source::Pending { transaction, overlay } => {
                if let Some(change) = overlay.get(&(table, key.to_owned())) {
                    return Ok(change.clone());
                }
                let rows = transaction.open_table(table.definition()).map_err(StoreError::storage)?;
                raw_get(&rows, key)
            }
        }
    }

    fn raw_prefix(&self, table: Table, prefix: &str) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        match &self.source {
            Source::Committed(transaction) => {
                let rows = transaction.open_table(table.definition()).map_err(StoreError::storage)?;
                raw_range(&rows, prefix)
            }
            Source::Pending { transaction, overlay } => {
                let rows = transaction.open_table(table.definition()).map_err(StoreError::storage)?;
                let mut found = raw_range(&rows, prefix)?;
                let changes = overlay.iter().filter(|((t, key), _)| *t == table && key.starts_with(prefix));
                for ((_, key), change) in changes {
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

    /// Sets the value of a key.
    pub fn put<V: Serialize + ?Sized>(
        &mut self,
        table: Table,
        key: &str,
        value: &V,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Encode {
            table,
            key: key.to_owned(),
            source: Arc::new(source),
        })?;
        self.change(table, key, Some(bytes));
        Ok(())
    }

    /// Removes a key; nothing happens when it has no value.
    pub fn delete(&mut self, table: Table, key: &str) {
        self.change(table, key, None);
    }

    fn change(&mut self, table: Table, key: &str, change: Option<Vec<u8>>) {
        if let Source::Pending { overlay, .. } = &mut self.reader.source {
            overlay.insert((table, key.to_owned()), change);
        }
    }

    /// Moves the changes into the transaction.
    pub(super) fn apply(self) -> Result<(), StoreError> {
        let Source::Pending { transaction, overlay } = self.reader.source else { return Ok(()) };
        for ((table, key), change) in &overlay {
            let mut rows = transaction.open_table(table.definition()).map_err(StoreError::storage)?;
            match change {
                Some(bytes) => {
                    drop(rows.insert(key.as_str(), bytes.as_slice()).map_err(StoreError::storage)?)
                }
                None => drop(rows.remove(key.as_str()).map_err(StoreError::storage)?),
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

fn decode<V: DeserializeOwned>(table: Table, key: &str, bytes: &[u8]) -> Result<V, StoreError> {
    serde_json::from_slice(bytes).map_err(|source| StoreError::Decode {
        table,
        key: key.to_owned(),
        source: Arc::new(source),
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
