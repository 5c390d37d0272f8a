//! The migrations, one file each, in order. What a file here knows of an old schema never changes again.

#[cfg(test)]
mod tests;
mod to_2;

use std::collections::BTreeMap;
use std::path::Path;

use redb::{ReadableTable, WriteTransaction};

use super::table::definition;

/// Rewrites the rows of the schema before.
pub(super) type Migration = fn(&mut Rewriter<'_>) -> Result<(), redb::Error>;

/// The schema that a migration leads to, and the migration.
pub(super) const LIST: [(u32, Migration); 1] = [(2, to_2::run)];

/// The rows of a table by the texts of their keys.
pub(super) type Texts = BTreeMap<String, Vec<u8>>;

/// What a migration may do.
pub(super) struct Rewriter<'a> {
    transaction: &'a WriteTransaction,
    data: &'a Path,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(transaction: &'a WriteTransaction, data: &'a Path) -> Rewriter<'a> {
        Rewriter { transaction, data }
    }

    /// Takes all rows out of a table.
    fn take(&mut self, table: &'static str) -> Result<Texts, redb::Error> {
        let mut taken = Texts::new();
        {
            let rows = self.transaction.open_table(definition(table))?;
            for row in rows.iter()? {
                let (key, value) = row?;
                taken.insert(key.value().to_owned(), value.value().to_vec());
            }
        }
        self.transaction.delete_table(definition(table))?;
        Ok(taken)
    }

    fn put(&mut self, table: &'static str, key: &str, row: &[u8]) -> Result<(), redb::Error> {
        let mut rows = self.transaction.open_table(definition(table))?;
        rows.insert(key, row)?;
        Ok(())
    }

    /// The folder of the database.
    fn data(&self) -> &Path {
        self.data
    }
}
